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
    Cohere2Config,
    CohereConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    OlmoConfig,
    OpenAIGPTConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
    Starcoder2Config,
)
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

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
PARTLY = LLAMA | {"num_attention_heads": 6, "rope_parameters": NEOX["rope_parameters"]}
FALCON = DEEP | {"num_attention_heads": 4, "max_position_embeddings": POSITIONS}
FALCON |= {"ffn_hidden_size": 40, "rope_parameters": _rope()}
KINDS = ["sliding_attention", "full_attention", "sliding_attention"]

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
# Windows are shorter than the longer prompts, and caps small enough to be felt.
CONFIGS |= {
    "qwen2-window": lambda: Qwen2Config(
        **LLAMA, use_sliding_window=True, sliding_window=4, max_window_layers=1
    ),
    "gemma": lambda: GemmaConfig(**LLAMA, head_dim=10, attention_bias=True),
    "gemma2": lambda: Gemma2Config(
        **LLAMA,
        head_dim=10,
        query_pre_attn_scalar=7,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=20.0,
        sliding_window=3,
        layer_types=KINDS,
    ),
    "gemma3_text": lambda: Gemma3TextConfig(
        **LLAMA
        | {"rope_parameters": {KINDS[0]: _rope(), KINDS[1]: {**_rope(), "rope_theta": 5000.0}}},
        head_dim=10,
        query_pre_attn_scalar=7,
        final_logit_softcapping=20.0,
        sliding_window=3,
        layer_types=KINDS,
    ),
    "mistral": lambda: MistralConfig(**LLAMA, head_dim=10, sliding_window=4),
    "phi3": lambda: Phi3Config(**PARTLY, sliding_window=4, pad_token_id=0),
    "olmo2": lambda: Olmo2Config(**LLAMA, attention_bias=True),
    "stablelm": lambda: StableLmConfig(**PARTLY, use_qkv_bias=True),
    "stablelm-parallel": lambda: StableLmConfig(
        **PARTLY, use_parallel_residual=True, qk_layernorm=True
    ),
    "opt": lambda: OPTConfig(
        **DEEP, num_attention_heads=3, ffn_dim=40, max_position_embeddings=POSITIONS
    ),
    "falcon": lambda: FalconConfig(**FALCON),
    "falcon-alibi": lambda: FalconConfig(
        **FALCON | {"num_attention_heads": 3},
        alibi=True,
        parallel_attn=False,
        multi_query=False,
        bias=True,
    ),
    "falcon-new": lambda: FalconConfig(
        **FALCON, new_decoder_architecture=True, num_ln_in_parallel_attn=2, num_kv_heads=2
    ),
    "granite": lambda: GraniteConfig(
        **LLAMA,
        embedding_multiplier=3.0,
        residual_multiplier=0.4,
        attention_multiplier=0.25,
        logits_scaling=2.5,
        attention_bias=True,
        mlp_bias=True,
    ),
    "cohere": lambda: CohereConfig(**LLAMA, logit_scale=0.3, use_qk_norm=True),
}
CASES = tuple(CONFIGS)
PARALLEL = ("gptj", "gpt_neox", "stablelm-parallel", "falcon", "falcon-new", "cohere")
SEQUENTIAL = tuple(case for case in CASES if case not in PARALLEL)


def tiny_config(case: str) -> PretrainedConfig:
    """The configuration of one case of CASES."""
    return CONFIGS[case]()


def tiny_model(
    case: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, attention: str | None = None
) -> PreTrainedModel:
    """A fresh random model in evaluation mode; the same weights for the same case and seed.

    `attention` is the implementation to ask transformers for, if not its own choice.
    """
    return random_model(tiny_config(case), dtype=dtype, seed=seed, attention=attention)


def random_model(
    config: PretrainedConfig,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    attention: str | None = None,
) -> PreTrainedModel:
    """The model of a configuration, with random weights, also where they would be zeros or ones."""
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return randomise(model, seed).to(dtype)


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


def awkward_llama(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A sound Llama whose logits are sums of large terms that cancel, as in large trained models.

    Eight columns of the stream are large for every token, and the head weighs them in turn with
    +0.2 and -0.2: any rounding of them weighs much in every logit.
    """
    config = LlamaConfig(**LLAMA | {"hidden_size": 256})
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        model.model.embed_tokens.weight *= 50  # to a standard deviation of 1
        model.model.embed_tokens.weight[:, :8] += 5
        model.lm_head.weight[:, :8] += torch.tensor([0.2, -0.2]).repeat(4)
    return model.to(dtype)


# Families that nothing names, and models that only look like one of them -------------------------


def tiny_cohere2() -> PreTrainedModel:
    """Parallel; windows, and rotary positions in the layers that have one only."""
    return random_model(Cohere2Config(**LLAMA, sliding_window=4, layer_types=KINDS))


def tiny_starcoder2() -> PreTrainedModel:
    """Sequential; LayerNorm, biases, an FFN without gate that calls its matrices as GPT-2 does."""
    return random_model(Starcoder2Config(**LLAMA, sliding_window=4))


def tiny_olmo() -> PreTrainedModel:
    """Sequential; norms without weights, queries, keys and values clipped."""
    return random_model(OlmoConfig(**LLAMA, clip_qkv=1.0))


def tiny_openai_gpt() -> PreTrainedModel:
    """An impostor: its norms stand after the sums, so that nothing is purely added."""
    return random_model(
        OpenAIGPTConfig(
            vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=3
        )
    )


class GatedBlock(LlamaDecoderLayer):
    """A block that passes on only half of the state it was given."""

    def forward(self, hidden_states: torch.Tensor, **inputs) -> torch.Tensor:
        return super().forward(hidden_states, **inputs) - hidden_states / 2


def gated_llama() -> PreTrainedModel:
    """An impostor: Llama by name and modules, with a gate on the residual."""
    model = tiny_model("llama")
    for layer in model.model.layers:
        layer.__class__ = GatedBlock
    return model


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE that reads any text: all bytes, a space with each letter, an end of text.

    It composes accents, as transformers makes any tokenizer of Qwen2's family do.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", letter) for letter in string.ascii_letters]
    tokens = ["<|endoftext|>", *alphabet, *(space + letter for space, letter in merges)]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    )
    tokenizer.normalizer = normalizers.NFC()
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
