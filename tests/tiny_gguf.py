"""Tiny GGUF files, written by the package `gguf` from tiny random models, as llama.cpp would.

Names and rearrangements are written down here, from llama.cpp's converter: nothing of the code that
reads these files again is used.
"""

from __future__ import annotations

import re
import string
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    Qwen2Config,
)

from tiny_models import randomise, tiny_tokenizer

WIDTH, LAYERS, HEADS, SHARED = 64, 2, 4, 2
FAMILIES = ("llama", "qwen2", "gemma3", "gpt2")
KINDS = ("F32", "F16", "Q8_0", "Q4_0")

_NAMES = (
    (r"^(model\.embed_tokens|transformer\.wte)\.", "token_embd."),
    (r"^transformer\.wpe\.", "position_embd."),
    (r"^(model\.norm|transformer\.ln_f)\.", "output_norm."),
    (r"^lm_head\.", "output."),
    (r"^(model\.layers|transformer\.h)\.", "blk."),
    (r"\.self_attn\.(q|k|v)_proj\.", r".attn_\1."),
    (r"\.self_attn\.(q|k)_norm\.", r".attn_\1_norm."),
    (r"\.(self_attn\.o_proj|attn\.c_proj)\.", ".attn_output."),
    (r"\.attn\.c_attn\.", ".attn_qkv."),
    (r"\.mlp\.(gate|up|down)_proj\.", r".ffn_\1."),
    (r"\.mlp\.c_fc\.", ".ffn_up."),
    (r"\.mlp\.c_proj\.", ".ffn_down."),
    (r"\.(input_layernorm|ln_1)\.", ".attn_norm."),
)
_NORMS = {"post_attention_layernorm": "ffn_norm", "ln_2": "ffn_norm"}
_GEMMA_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def random_model(family: str) -> PreTrainedModel:
    """A random model whose every matrix has rows that GGUF's blocks of 32 fit into."""
    tokens = len(tiny_tokenizer())
    shape = {"vocab_size": tokens, "hidden_size": WIDTH, "num_hidden_layers": LAYERS}
    shape |= {"intermediate_size": 96, "num_attention_heads": HEADS, "num_key_value_heads": SHARED}
    shape |= {"max_position_embeddings": 128, "rms_norm_eps": 1e-5}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}}
    config = {
        "llama": lambda: LlamaConfig(**shape, **rope, head_dim=16, tie_word_embeddings=False),
        "qwen2": lambda: Qwen2Config(**shape, **rope, tie_word_embeddings=True),
        "gemma3": lambda: Gemma3TextConfig(
            **shape,
            head_dim=16,
            query_pre_attn_scalar=256,
            sliding_window=4,
            layer_types=["sliding_attention", "sliding_attention"],
        ),
        "gpt2": lambda: GPT2Config(
            vocab_size=tokens, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, layer_norm_epsilon=1e-4
        ),
    }[family]()
    return randomise(AutoModelForCausalLM.from_config(config))


def gguf_name(family: str, name: str) -> str:
    """What llama.cpp calls a parameter."""
    for pattern, new in _NAMES:
        name = re.sub(pattern, new, name)
    for norm, new in (_GEMMA_NORMS if family == "gemma3" else _NORMS).items():
        name = name.replace(f".{norm}.", f".{new}.")
    return name


def stored(family: str, name: str, weights: torch.Tensor) -> np.ndarray:
    """A parameter as llama.cpp lays it out: rotary rows of Llama paired, Gemma's norms around 1,
    GPT-2's matrices turned."""
    values = weights.detach().numpy()
    if family == "llama" and (turned := re.search(r"\.(q|k)_proj\.", name)):
        heads = HEADS if turned[1] == "q" else SHARED
        half = values.shape[0] // heads // 2
        # row r of a head's first half stands beside row r of its second half
        rows = [
            h * 2 * half + i + j * half for h in range(heads) for i in range(half) for j in (0, 1)
        ]
        values = values[rows]
    if family == "gemma3" and "norm" in name:
        values = values + 1
    if family == "gpt2" and values.ndim == 2 and ".h." in name:
        values = values.T
    return np.ascontiguousarray(values, dtype=np.float32)


def write_gguf(
    path: Path, family: str, kind: str = "F32", *, model: PreTrainedModel | None = None, **more
) -> PreTrainedModel:
    """Write a model of a family with matrices of this kind, and return it unrounded.

    `more` are further entries: `architecture` another one, `extra` further tensors, `fields`
    numbers by their name.
    """
    model = model or random_model(family)
    config = model.config
    writer = gguf.GGUFWriter(path, more.get("architecture", family))
    writer.add_name("Tiny")
    writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if kind == 'F32' else 'MOSTLY'}_{kind}"])
    writer.add_block_count(LAYERS)
    writer.add_context_length(getattr(config, "max_position_embeddings", 1024))
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(96)
    writer.add_head_count(HEADS)
    if family == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_head_count_kv(SHARED)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(config.vocab_size)
    if family in ("llama", "qwen2"):
        writer.add_rope_freq_base(300.0)
        writer.add_rope_dimension_count(16)
    if family == "gemma3":
        writer.add_key_length(16)
        writer.add_sliding_window(config.sliding_window)
    for key, value in more.get("fields", {}).items():
        writer.add_float32(key, value)
    (_add_sentencepiece if family == "gemma3" else _add_tokenizer)(writer)
    tied = config.tie_word_embeddings
    for name, weights in model.state_dict().items():
        if not (tied and name.startswith("lm_head")):
            _add(writer, gguf_name(family, name), stored(family, name, weights), kind)
    for name, values in more.get("extra", {}).items():
        _add(writer, name, values, "F32")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _add(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: str) -> None:
    if values.ndim == 1 or kind == "F32":
        writer.add_tensor(name, values)
    elif kind == "F16":
        writer.add_tensor(name, values.astype(np.float16))
    else:
        number = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quantize(values, number), raw_dtype=number)


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokenizer = tiny_tokenizer()
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    control = gguf.TokenType.CONTROL
    writer.add_token_types(
        [control if t.startswith("<|") else gguf.TokenType.NORMAL for t in tokens]
    )
    writer.add_token_merges([f"{t[0]} {t[1]}" for t in tokens if len(t) == 2 and t[0] == "Ġ"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)


def sentencepiece_tokens() -> list[str]:
    """No more than the other tokenizer has: special ones, bytes, letters, spaces with them."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    tokens += [*string.ascii_lowercase[:20], *("▁" + one for one in string.ascii_lowercase[:20])]
    return [*tokens, *("abcdefgh"[i : i + 2] for i in range(7))][: len(tiny_tokenizer())]


def _add_sentencepiece(writer: gguf.GGUFWriter) -> None:
    tokens = sentencepiece_tokens()
    kinds = [gguf.TokenType.CONTROL] * 4 + [gguf.TokenType.BYTE] * 256
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * (len(tokens) - len(kinds)))
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)


def dequantised(family: str, kind: str, name: str, weights: torch.Tensor) -> torch.Tensor:
    """What reading a parameter again must give: rounding is row by row, so it does not matter in
    which order rows were kept."""
    values = weights.detach().numpy()
    if family == "gemma3" and "norm" in name:
        return (weights + 1) - 1
    if values.ndim == 1 or kind == "F32":
        return weights
    turned = family == "gpt2" and ".h." in name
    values = np.ascontiguousarray(values.T if turned else values)
    number = gguf.GGMLQuantizationType[kind]
    rounded = gguf.dequantize(gguf.quantize(values, number), number)
    return torch.from_numpy(np.ascontiguousarray(rounded.T if turned else rounded))
