"""Forward passes of every family in plain torch, written from the papers' equations: the oracle.

Nothing here uses a module of transformers; only weights and settings are taken from the model. One
prompt at a time, so there is no padding, no mask but the causal one and no batch to get wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

Edit = Callable[[str, int, Tensor], Tensor]  # (kind, layer, [token, d_model]) -> the same, changed


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - wide.mean(-1, keepdim=True)
    normed = centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return (normed * weight + bias).to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return weight * (wide / (wide.pow(2).mean(-1, keepdim=True) + eps).sqrt()).to(x.dtype)


def heads(x: Tensor, n: int) -> Tensor:
    """[token, n * width] -> [head, token, width]"""
    return x.reshape(len(x), n, -1).transpose(0, 1)


def attend(q: Tensor, k: Tensor, v: Tensor, *, scale: float, bias: Tensor | float = 0.0) -> Tensor:
    """Causal attention over [head, token, width]; returns [token, head * width]."""
    tokens = q.shape[1]
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    scores = (q @ k.transpose(1, 2) * scale + bias).masked_fill(future, -math.inf)
    return (scores.softmax(-1) @ v).transpose(0, 1).reshape(tokens, -1)


def angles(tokens: int, width: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of every position's rotation of each of the width / 2 pairs."""
    speed = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    turn = torch.arange(tokens, dtype=torch.float64)[:, None] * speed
    return turn.cos().to(dtype), turn.sin().to(dtype)


def rotate(x: Tensor, width: int, theta: float, *, interleaved: bool) -> Tensor:
    """Rotary positions on the first `width` dimensions of [head, token, head_width].

    A pair is two neighbours where interleaved, else one dimension of each half.
    """
    cos, sin = angles(x.shape[1], width, theta, x.dtype)
    turned, rest = x[..., :width], x[..., width:]
    pairs = turned.unflatten(-1, (-1, 2) if interleaved else (2, -1))
    a, b = pairs.unbind(-1 if interleaved else -2)
    both = torch.stack((a * cos - b * sin, b * cos + a * sin), -1 if interleaved else -2)
    return torch.cat((both.flatten(-2), rest), -1)


class Net:
    """Weights by name, settings, and what the families share."""

    parallel = False
    blocks = "transformer.h"
    eps = "layer_norm_epsilon"
    final = "transformer.ln_f"

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        self.w = {name: value.to(dtype) for name, value in model.state_dict().items()}
        self.c = model.config

    def linear(self, x: Tensor, name: str) -> Tensor:
        bias = self.w.get(f"{name}.bias")
        product = x @ self.w[f"{name}.weight"].T
        return product if bias is None else product + bias

    def norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.w[f"{name}.weight"], self.w.get(f"{name}.bias")
        eps = getattr(self.c, self.eps)
        return rms_norm(x, weight, eps) if bias is None else layer_norm(x, weight, bias, eps)

    def at(self, i: int, name: str) -> str:
        return f"{self.blocks}.{i}.{name}"

    def head(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x, self.final), "lm_head")


class Gpt2(Net):
    def embed(self, ids: Tensor) -> Tensor:
        return self.w["transformer.wte.weight"][ids] + self.w["transformer.wpe.weight"][: len(ids)]

    def conv(self, x: Tensor, name: str) -> Tensor:
        return x @ self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def attention(self, i: int, x: Tensor) -> Tensor:
        normed = self.norm(x, self.at(i, "ln_1"))
        parts = self.conv(normed, self.at(i, "attn.c_attn")).chunk(3, -1)
        q, k, v = (heads(part, self.c.n_head) for part in parts)
        scale = q.shape[-1] ** -0.5 if self.c.scale_attn_weights else 1.0
        scale /= i + 1 if self.c.scale_attn_by_inverse_layer_idx else 1
        return self.conv(attend(q, k, v, scale=scale), self.at(i, "attn.c_proj"))

    def neurons(self, i: int, x: Tensor) -> Tensor:
        inner = self.conv(self.norm(x, self.at(i, "ln_2")), self.at(i, "mlp.c_fc"))
        return F.gelu(inner, approximate="tanh")

    def ffn(self, i: int, x: Tensor) -> Tensor:
        return self.conv(self.neurons(i, x), self.at(i, "mlp.c_proj"))


class GptJ(Net):
    parallel = True

    def embed(self, ids: Tensor) -> Tensor:
        return self.w["transformer.wte.weight"][ids]

    def attention(self, i: int, x: Tensor) -> Tensor:
        normed = self.norm(x, self.at(i, "ln_1"))
        q, k, v = (
            heads(self.linear(normed, self.at(i, f"attn.{name}_proj")), self.c.n_head)
            for name in "qkv"
        )
        q, k = (rotate(one, self.c.rotary_dim, 10000.0, interleaved=True) for one in (q, k))
        mixed = attend(q, k, v, scale=q.shape[-1] ** -0.5)
        return self.linear(mixed, self.at(i, "attn.out_proj"))

    def neurons(self, i: int, x: Tensor) -> Tensor:
        inner = self.linear(self.norm(x, self.at(i, "ln_1")), self.at(i, "mlp.fc_in"))
        return F.gelu(inner, approximate="tanh")

    def ffn(self, i: int, x: Tensor) -> Tensor:
        return self.linear(self.neurons(i, x), self.at(i, "mlp.fc_out"))


class Bloom(Net):
    def embed(self, ids: Tensor) -> Tensor:
        embedded = self.w["transformer.word_embeddings.weight"][ids]
        return self.norm(embedded, "transformer.word_embeddings_layernorm")

    def slopes(self) -> Tensor:
        """ALiBi: a geometric sequence; for other than 2^n heads, every second of the next too."""
        n = self.c.n_head
        power = 2 ** math.floor(math.log2(n))
        full = [2 ** (-8 * (j + 1) / power) for j in range(power)]
        more = [2 ** (-4 * (2 * j + 1) / power) for j in range(n - power)]
        return torch.tensor(full + more, dtype=torch.float64)

    def attention(self, i: int, x: Tensor) -> Tensor:
        normed = self.norm(x, self.at(i, "input_layernorm"))
        fused = self.linear(normed, self.at(i, "self_attention.query_key_value"))
        fused = fused.reshape(len(x), self.c.n_head, 3, -1).permute(2, 1, 0, 3)
        near = self.slopes()[:, None, None] * torch.arange(len(x), dtype=torch.float64)
        mixed = attend(*fused, scale=fused.shape[-1] ** -0.5, bias=near.to(x.dtype))
        return self.linear(mixed, self.at(i, "self_attention.dense"))

    def neurons(self, i: int, x: Tensor) -> Tensor:
        normed = self.norm(x, self.at(i, "post_attention_layernorm"))
        return F.gelu(self.linear(normed, self.at(i, "mlp.dense_h_to_4h")), approximate="tanh")

    def ffn(self, i: int, x: Tensor) -> Tensor:
        return self.linear(self.neurons(i, x), self.at(i, "mlp.dense_4h_to_h"))


class GptNeoX(Net):
    blocks, eps, final = "gpt_neox.layers", "layer_norm_eps", "gpt_neox.final_layer_norm"

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        self.parallel = self.c.use_parallel_residual

    def embed(self, ids: Tensor) -> Tensor:
        return self.w["gpt_neox.embed_in.weight"][ids]

    def attention(self, i: int, x: Tensor) -> Tensor:
        normed = self.norm(x, self.at(i, "input_layernorm"))
        fused = self.linear(normed, self.at(i, "attention.query_key_value"))
        q, k, v = heads(fused, self.c.num_attention_heads).chunk(3, -1)
        rope = self.c.rope_parameters
        width = int(q.shape[-1] * rope["partial_rotary_factor"])
        q, k = (rotate(one, width, rope["rope_theta"], interleaved=False) for one in (q, k))
        mixed = attend(q, k, v, scale=q.shape[-1] ** -0.5)
        return self.linear(mixed, self.at(i, "attention.dense"))

    def neurons(self, i: int, x: Tensor) -> Tensor:
        normed = self.norm(x, self.at(i, "post_attention_layernorm"))
        return F.gelu(self.linear(normed, self.at(i, "mlp.dense_h_to_4h")))

    def ffn(self, i: int, x: Tensor) -> Tensor:
        return self.linear(self.neurons(i, x), self.at(i, "mlp.dense_4h_to_h"))


class Llama(Net):
    """Llama, Qwen2 (biases on queries, keys and values) and Qwen3 (norms on queries and keys)."""

    blocks, eps, final = "model.layers", "rms_norm_eps", "model.norm"

    def embed(self, ids: Tensor) -> Tensor:
        return self.w["model.embed_tokens.weight"][ids]

    def projected(self, i: int, x: Tensor, name: str, n: int) -> Tensor:
        one = heads(self.linear(x, self.at(i, f"self_attn.{name}_proj")), n)
        own_norm = self.at(i, f"self_attn.{name}_norm")
        return self.norm(one, own_norm) if f"{own_norm}.weight" in self.w else one

    def attention(self, i: int, x: Tensor) -> Tensor:
        normed = self.norm(x, self.at(i, "input_layernorm"))
        n, shared = self.c.num_attention_heads, self.c.num_key_value_heads
        q, k, v = (
            self.projected(i, normed, *one) for one in (("q", n), ("k", shared), ("v", shared))
        )
        width, theta = q.shape[-1], self.c.rope_parameters["rope_theta"]
        q, k = (rotate(one, width, theta, interleaved=False) for one in (q, k))
        k, v = (one.repeat_interleave(n // shared, 0) for one in (k, v))
        return self.linear(attend(q, k, v, scale=width**-0.5), self.at(i, "self_attn.o_proj"))

    def neurons(self, i: int, x: Tensor) -> Tensor:
        normed = self.norm(x, self.at(i, "post_attention_layernorm"))
        gate, up = (self.linear(normed, self.at(i, f"mlp.{name}_proj")) for name in ("gate", "up"))
        return F.silu(gate) * up

    def ffn(self, i: int, x: Tensor) -> Tensor:
        return self.linear(self.neurons(i, x), self.at(i, "mlp.down_proj"))


NETS = {"gpt2": Gpt2, "gptj": GptJ, "bloom": Bloom, "gpt_neox": GptNeoX}
NETS |= {"llama": Llama, "qwen2": Llama, "qwen3": Llama}


def hand_written(
    model: PreTrainedModel,
    ids: Sequence[int],
    *,
    dtype: torch.dtype = torch.float64,
    edit: Edit = lambda kind, layer, vectors: vectors,
) -> dict[str, Tensor]:
    """before, mid, after, attention, ffn as [layer, token, d_model]; logits [token, vocabulary].

    There is no mid where attention and FFN run in parallel. `edit` may change each contribution.
    `neurons`, as [layer, token, neuron], are the activations that the FFN's last matrix reads.
    """
    net = NETS[model.config.model_type](model, dtype)
    x = net.embed(torch.tensor(ids))
    kept: dict[str, list[Tensor]] = {}
    for i in range(model.config.num_hidden_layers):
        attention = edit("attention", i, net.attention(i, x))
        mid = x + attention
        read = x if net.parallel else mid
        kept.setdefault("neurons", []).append(net.neurons(i, read))
        ffn = edit("ffn", i, net.ffn(i, read))
        states = {"before": x, "attention": attention, "ffn": ffn, "after": mid + ffn}
        for part, state in (states if net.parallel else states | {"mid": mid}).items():
            kept.setdefault(part, []).append(state)
        x = states["after"]
    return {part: torch.stack(states) for part, states in kept.items()} | {"logits": net.head(x)}
