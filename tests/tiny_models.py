"""Tiny random models of every supported family, with settings that are odd on purpose.

They come from real configuration classes. Parameters that are initialised to zeros or ones (biases,
norm weights) are random here, or a test could not see whether they are used.
"""

from __future__ import annotations

import string
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from ovectors.errors import UserError
from ovectors.models import LanguageModel, load_model

VOCABULARY = 320  # rows of the head: more than the tokenizer has tokens, as GPT-J and Pythia have
LAYERS = 3
WIDTH = 24  # no power of two
POSITIONS = 96

# Token ids of different lengths, no two of which a batch can hold without padding.
PROMPTS = (
    (5, 17, 99, 3, 250, 31, 8),
    (7, 7, 12),
    (200, 4, 61, 90, 2, 11, 45, 120, 33, 9, 1),
    (42, 6),
)


def _rope(**more: float) -> dict:
    return {"rope_type": "default", "rope_theta": 300.0, **more}


SHAPE = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
GPT2 = SHAPE | {"n_layer": LAYERS, "n_embd": WIDTH, "n_head": 3, "n_positions": POSITIONS}
DEEP = SHAPE | {"num_hidden_layers": LAYERS, "hidden_size": WIDTH}
LLAMA = DEEP | {"max_position_embeddings": POSITIONS, "intermediate_size": 40}
LLAMA |= {"num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": _rope()}
NEOX = DEEP | {"max_position_embeddings": POSITIONS, "intermediate_size": 56}
NEOX |= {"num_attention_heads": 3, "rope_parameters": _rope(partial_rotary_factor=0.5)}

CONFIGS = {
    "gpt2": lambda: GPT2Config(**GPT2, n_inner=40, layer_norm_epsilon=1e-3),
    "gpt2-scaled": lambda: GPT2Config(
        **GPT2, scale_attn_by_inverse_layer_idx=True, activation_function="gelu_pytorch_tanh"
    ),
    "gpt2-unscaled": lambda: GPT2Config(
        **GPT2, scale_attn_weights=False, reorder_and_upcast_attn=True, tie_word_embeddings=False
    ),
    "gptj": lambda: GPTJConfig(**GPT2, rotary_dim=4, tie_word_embeddings=False),
    "bloom": lambda: BloomConfig(**SHAPE, hidden_size=WIDTH, n_layer=LAYERS, n_head=3),
    "gpt_neox": lambda: GPTNeoXConfig(**NEOX),
    "gpt_neox-sequential": lambda: GPTNeoXConfig(**NEOX, use_parallel_residual=False),
    "llama": lambda: LlamaConfig(
        **LLAMA, head_dim=10, attention_bias=True, mlp_bias=True, rms_norm_eps=1e-3
    ),
    "qwen2": lambda: Qwen2Config(**LLAMA, tie_word_embeddings=True),
    "qwen3": lambda: Qwen3Config(**LLAMA, head_dim=10),
}
CASES = tuple(CONFIGS)
PARALLEL = ("gptj", "gpt_neox")
SEQUENTIAL = tuple(case for case in CASES if case not in PARALLEL)


def tiny_config(case: str) -> PretrainedConfig:
    """The configuration of one case of CASES."""
    return CONFIGS[case]()


def tiny_model(case: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> PreTrainedModel:
    """A fresh random model in evaluation mode; the same weights for the same case and seed."""
    return randomise(AutoModelForCausalLM.from_config(tiny_config(case)), seed).to(dtype)


def randomise(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Give every parameter random numbers, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            noise = torch.randn(weights.shape, generator=generator)
            if weights.ndim > 1:
                embeds = any(part in name for part in ("wte", "wpe", "embed", "word_embeddings"))
                weights.copy_(noise if embeds else noise * 1.5 / weights.shape[-1] ** 0.5)
            else:
                weights.copy_(0.3 * noise if name.endswith("bias") else 1 + 0.3 * noise)
    return model.eval()


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE that reads any text: all bytes, a space with each letter, an end of text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", letter) for letter in string.ascii_letters]
    tokens = ["<|endoftext|>", *alphabet, *(space + letter for space, letter in merges)]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def tiny(case: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> LanguageModel:
    """A tiny model with its tokenizer, wrapped as the library takes it; not self-checked."""
    model = tiny_model(case, dtype=dtype, seed=seed)
    return LanguageModel.of(model, tiny_tokenizer(), name=f"tiny-{case}")


def save_tiny(case: str, folder: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Write a tiny model and its tokenizer to `folder`, as a user would have them."""
    tiny_model(case, dtype=dtype).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def refused(name: object, message: str, **arguments) -> None:
    """Opening the model and using it fails with one line that holds `message`."""
    with pytest.raises(UserError, match=message) as caught:
        _ = load_model(name, **arguments).model
    assert "\n" not in str(caught.value)
