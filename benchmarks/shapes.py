"""The models that are measured: shapes with random weights, and the miniatures that are here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from ovectors import paths
from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.models import LanguageModel, load_model

MINIATURE = "mini-2m"  # whose tokenizer reads the prompts, for the random shapes too
RELATION, MANY, FORM = "world_capitals", "past_tense", "one_shot"
_UNLIKELY = -1000.0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model to measure.

    Attributes:
        about: what it is, in words.
        config: makes the configuration, for a vocabulary of so many tokens; None for a miniature
            whose trained weights are here.
        dtype: what it runs in.
    """

    name: str
    about: str
    config: Callable[[int], PretrainedConfig] | None = None
    dtype: torch.dtype = torch.float32


_ENDS = {"bos_token_id": 0, "eos_token_id": 0}  # the miniature's


def _gpt2(**sizes: int) -> Callable[[int], PretrainedConfig]:
    return lambda vocabulary: GPT2Config(**{"vocab_size": vocabulary, **_ENDS, **sizes})


def _rope(theta: float) -> dict:
    return {"rope_type": "default", "rope_theta": theta}


def _llama(**sizes: int) -> Callable[[int], PretrainedConfig]:
    names = {"rope_parameters": _rope(500_000.0), "tie_word_embeddings": False, **_ENDS}
    return lambda vocabulary: LlamaConfig(**{"vocab_size": vocabulary, **names, **sizes})


def _gptj(**sizes: int) -> Callable[[int], PretrainedConfig]:
    return lambda vocabulary: GPTJConfig(**{"vocab_size": vocabulary, **_ENDS, **sizes})


GPT2_TOKENS, GPTJ_TOKENS, LLAMA_TOKENS = 50_257, 50_400, 128_256
LLAMA_8B = {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32}
LLAMA_8B |= {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": LLAMA_TOKENS}
TINY = {"n_layer": 3, "n_embd": 48, "n_head": 4, "initializer_range": 0.2}
TINY_LLAMA = {"hidden_size": 48, "intermediate_size": 80, "initializer_range": 0.2}
TINY_LLAMA |= {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}

SHAPES = {
    shape.name: shape
    for shape in (
        Shape(name=MINIATURE, about="the embedded miniature, trained"),
        Shape(
            name="gpt2-21m",
            about="a GPT-2 of 12 layers, 352 wide",
            config=_gpt2(n_layer=12, n_embd=352, n_head=8, n_positions=256),
        ),
        Shape(name="gpt2-small", about="GPT-2 small", config=_gpt2(vocab_size=GPT2_TOKENS)),
        Shape(
            name="gpt2-medium",
            about="GPT-2 medium",
            config=_gpt2(vocab_size=GPT2_TOKENS, n_layer=24, n_embd=1024, n_head=16),
        ),
        Shape(
            name="gptj-6b",
            about="GPT-J",
            config=_gptj(vocab_size=GPTJ_TOKENS),
            dtype=torch.bfloat16,
        ),
        Shape(name="llama-8b", about="Llama 8B", config=_llama(**LLAMA_8B), dtype=torch.bfloat16),
        Shape(name="tiny-gpt2", about="a tiny GPT-2", config=_gpt2(**TINY)),
        Shape(name="tiny-gptj", about="a tiny GPT-J", config=_gptj(**TINY, rotary_dim=8)),
        Shape(name="tiny-llama", about="a tiny Llama", config=_llama(**TINY_LLAMA)),
        Shape(
            name="tiny-llama-bf16",
            about="a tiny Llama",
            config=_llama(**TINY_LLAMA),
            dtype=torch.bfloat16,
        ),
    )
}


def build(name: str, *, device: str = "cpu") -> LanguageModel:
    """The model, with its weights, on `device`: trained ones where they are here, or random ones.

    Random weights are made on the device itself, in the shape's dtype, from one seed, as the
    configuration class initialises them. `provenance["weights"]` says which they are.
    """
    shape = SHAPES[name]
    if shape.config is None or (paths.MODELS / name / "config.json").is_file():
        dtype = str(shape.dtype).removeprefix("torch.")
        model = load_model(name, device=device, dtype=dtype)
        _ = model.model  # load now, not inside a measurement
        model.provenance["weights"] = "trained"
        return model
    tokenizer = load_model(MINIATURE, device="cpu").tokenizer
    config = shape.config(len(tokenizer))
    torch.manual_seed(0)
    with torch.device(device):
        network = AutoModelForCausalLM.from_config(config, dtype=shape.dtype).eval()
    network.requires_grad_(False)
    model = LanguageModel.of(network, stretched(tokenizer, config.vocab_size), name=name)
    _ = model.model
    model.provenance["weights"] = "random"
    return model


def stretched(tokenizer: PreTrainedTokenizerFast, size: int) -> PreTrainedTokenizerFast:
    """The same tokenizer with spare tokens that no text ever gives, up to `size`.

    With them every row of a larger head stands for a token, so that all contestants rank among as
    many.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    spare = range(len(vocabulary), size)
    vocabulary += [[f"<spare {number}>", _UNLIKELY] for number in spare]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        eos_token=tokenizer.eos_token,
        bos_token=tokenizer.bos_token,
        pad_token=tokenizer.pad_token,
    )


def prompts(model: LanguageModel, *, count: int = 0, relation: str = RELATION) -> EncodedPrompts:
    """One-shot prompts of a relation: all for 0, else so many, evenly spread over them."""
    encoded = encode_relation(model, relation, FORM)
    if not 0 < count < len(encoded):
        return encoded
    return encoded.select(round(place * len(encoded) / count) for place in range(count))


def weight_bytes(model: LanguageModel) -> int:
    """What the weights take, tied ones counted once."""
    return sum(one.numel() * one.element_size() for one in model.model.parameters())


def described(name: str, model: LanguageModel) -> dict:
    """What was measured, for the record."""
    config = model.config
    return {
        "about": SHAPES[name].about,
        "weights": model.provenance["weights"],
        "parameters": model.provenance["parameters"],
        "weight_bytes": weight_bytes(model),
        "layers": model.n_layers,
        "width": model.d_model,
        "heads": config.num_attention_heads,
        "vocabulary": model.vocab_size,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def empty_cache(device: str) -> None:
    """Hand back what is no longer held, so that the next model finds room."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        import ctypes

        ctypes.CDLL("libc.so.6").malloc_trim(0)
