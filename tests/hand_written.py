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


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | float, eps: float) -> Tensor:
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


def capped(x: Tensor, cap: float | None) -> Tensor:
    return x if cap is None else (x / cap).tanh() * cap


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    bias: Tensor | float = 0.0,
    cap: float | None = None,
    window: int | None = None,
) -> Tensor:
    """Causal attention over [head, token, width]; returns [token, head * width].

    With a `window`, a token sees that many: itself and those right before it.
    """
    tokens = q.shape[1]
    ago = torch.arange(tokens)[:, None] - torch.arange(tokens)
    unseen = (ago < 0) | (ago >= (window or tokens))
    scores = capped(q @ k.transpose(1, 2) * scale, cap) + bias
    return (scores.masked_fill(unseen, -math.inf).softmax(-1) @ v).transpose(0, 1).flatten(1)


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
        n = self.c.num_attention_heads
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


class Falcon(Bloom):
    """Every head group of the fused matrix: its queries, one key, one value."""

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        self.parallel = self.c.parallel_attn
        self.norm_names = ["input_layernorm", "input_layernorm"]
        if not self.parallel:
            self.norm_names[1] = "post_attention_layernorm"
        elif self.c.new_decoder_architecture and self.c.num_ln_in_parallel_attn == 2:
            self.norm_names = ["ln_attn", "ln_mlp"]

    def embed(self, ids: Tensor) -> Tensor:
        return self.w["transformer.word_embeddings.weight"][ids]

    def attention(self, i: int, x: Tensor) -> Tensor:
        normed = self.norm(x, self.at(i, self.norm_names[0]))
        fused = self.linear(normed, self.at(i, "self_attention.query_key_value"))
        n = self.c.num_attention_heads
        groups = 1 if self.c.multi_query else n
        groups = self.c.num_kv_heads if self.c.new_decoder_architecture else groups
        width, each = self.c.hidden_size // n, n // groups
        parts = fused.reshape(len(x), groups, each + 2, width).split([each, 1, 1], 2)
        q, k, v = (one.expand(-1, -1, each, -1).flatten(1, 2).transpose(0, 1) for one in parts)
        near = self.slopes()[:, None, None] * torch.arange(len(x), dtype=torch.float64)
        bias = (near * width**-0.5).to(x.dtype) if self.c.alibi else 0.0
        if not self.c.alibi:
            theta = self.c.rope_parameters["rope_theta"]
            q, k = (rotate(one, width, theta, interleaved=False) for one in (q, k))
        mixed = attend(q, k, v, scale=width**-0.5, bias=bias)
        return self.linear(mixed, self.at(i, "self_attention.dense"))

    def neurons(self, i: int, x: Tensor) -> Tensor:
        normed = self.norm(x, self.at(i, self.norm_names[1]))
        return F.gelu(self.linear(normed, self.at(i, "mlp.dense_h_to_4h")))


class Opt(Net):
    blocks, final = "model.decoder.layers", "model.decoder.final_layer_norm"

    def embed(self, ids: Tensor) -> Tensor:
        positions = self.w["model.decoder.embed_positions.weight"][2 : 2 + len(ids)]
        return self.w["model.decoder.embed_tokens.weight"][ids] + positions

    def norm(self, x: Tensor, name: str) -> Tensor:
        return layer_norm(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], 1e-5)

    def attention(self, i: int, x: Tensor) -> Tensor:
        normed = self.norm(x, self.at(i, "self_attn_layer_norm"))
        q, k, v = (
            heads(
                self.linear(normed, self.at(i, f"self_attn.{name}_proj")),
                self.c.num_attention_heads,
            )
            for name in "qkv"
        )
        mixed = attend(q, k, v, scale=q.shape[-1] ** -0.5)
        return self.linear(mixed, self.at(i, "self_attn.out_proj"))

    def neurons(self, i: int, x: Tensor) -> Tensor:
        return self.linear(self.norm(x, self.at(i, "final_layer_norm")), self.at(i, "fc1")).relu()

    def ffn(self, i: int, x: Tensor) -> Tensor:
        return self.linear(self.neurons(i, x), self.at(i, "fc2"))


class Llama(Net):
    """Llama, Mistral, Qwen2 (biases on queries, keys and values), Qwen3 (norms on the first two).

    And the base of the families below: attention and FFN, in this order, read what `before` names
    (a norm, or the stream itself) and add what leaves `after`.
    """

    blocks, eps, final = "model.layers", "rms_norm_eps", "model.norm"
    before: tuple[str | None, str | None] = ("input_layernorm", "post_attention_layernorm")
    after: tuple[str | None, str | None] = (None, None)
    gate = staticmethod(F.silu)
    interleaved = False

    def embed(self, ids: Tensor) -> Tensor:
        return self.w["model.embed_tokens.weight"][ids]

    def maybe_norm(self, i: int, x: Tensor, name: str | None) -> Tensor:
        return x if name is None else self.norm(x, self.at(i, name))

    def projected(self, i: int, x: Tensor, name: str, n: int) -> Tensor:
        one = heads(self.linear(x, self.at(i, f"self_attn.{name}_proj")), n)
        own_norm = self.at(i, f"self_attn.{name}_norm")
        return self.norm(one, own_norm) if f"{own_norm}.weight" in self.w else one

    def rope(self, i: int) -> dict:
        return self.c.rope_parameters

    def scale(self, width: int) -> float:
        return width**-0.5

    def cap(self) -> float | None:
        return None

    def window(self, i: int) -> int | None:
        kinds = getattr(self.c, "layer_types", None)
        everywhere = kinds is None or kinds[i] == "sliding_attention"
        return getattr(self.c, "sliding_window", None) if everywhere else None

    def attention(self, i: int, x: Tensor) -> Tensor:
        read = self.maybe_norm(i, x, self.before[0])
        n, shared = self.c.num_attention_heads, self.c.num_key_value_heads
        q, k, v = (
            self.projected(i, read, *one) for one in (("q", n), ("k", shared), ("v", shared))
        )
        width, rope = q.shape[-1], self.rope(i)
        turned = int(width * rope.get("partial_rotary_factor", 1))
        q, k = (
            rotate(one, turned, rope["rope_theta"], interleaved=self.interleaved) for one in (q, k)
        )
        k, v = (one.repeat_interleave(n // shared, 0) for one in (k, v))
        mixed = attend(q, k, v, scale=self.scale(width), cap=self.cap(), window=self.window(i))
        return self.maybe_norm(i, self.linear(mixed, self.at(i, "self_attn.o_proj")), self.after[0])

    def neurons(self, i: int, x: Tensor) -> Tensor:
        read = self.maybe_norm(i, x, self.before[1])
        gate, up = (self.linear(read, self.at(i, f"mlp.{name}_proj")) for name in ("gate", "up"))
        return self.gate(gate) * up

    def ffn(self, i: int, x: Tensor) -> Tensor:
        added = self.linear(self.neurons(i, x), self.at(i, "mlp.down_proj"))
        return self.maybe_norm(i, added, self.after[1])


class Phi3(Llama):
    """Two matrices hold what are five in Llama."""

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        n, shared = self.c.num_attention_heads, self.c.num_key_value_heads
        for i in range(self.c.num_hidden_layers):
            fused = self.w[self.at(i, "self_attn.qkv_proj.weight")]
            width = len(fused) // (n + 2 * shared)
            parts = fused.split([n * width, shared * width, shared * width])
            for name, part in zip("qkv", parts, strict=True):
                self.w[self.at(i, f"self_attn.{name}_proj.weight")] = part
            halves = self.w[self.at(i, "mlp.gate_up_proj.weight")].chunk(2)
            for name, half in zip(("gate", "up"), halves, strict=True):
                self.w[self.at(i, f"mlp.{name}_proj.weight")] = half


class Gemma(Llama):
    @staticmethod
    def gate(x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")

    def embed(self, ids: Tensor) -> Tensor:
        embedded = super().embed(ids)
        return embedded * torch.tensor(self.c.hidden_size**0.5, dtype=embedded.dtype)

    def norm(self, x: Tensor, name: str) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        weight = 1 + self.w[f"{name}.weight"].to(wide)
        return rms_norm(x.to(wide), weight, self.c.rms_norm_eps).to(x.dtype)


class Gemma2(Gemma):
    before = ("input_layernorm", "pre_feedforward_layernorm")
    after = ("post_attention_layernorm", "post_feedforward_layernorm")

    def scale(self, width: int) -> float:
        return self.c.query_pre_attn_scalar**-0.5

    def cap(self) -> float | None:
        return self.c.attn_logit_softcapping

    def head(self, x: Tensor) -> Tensor:
        return capped(super().head(x), self.c.final_logit_softcapping)


class Gemma3(Gemma2):
    def rope(self, i: int) -> dict:
        return self.c.rope_parameters[self.c.layer_types[i]]

    def cap(self) -> float | None:
        return None  # whatever its configuration says


class Olmo2(Llama):
    before = (None, None)
    after = ("post_attention_layernorm", "post_feedforward_layernorm")

    def projected(self, i: int, x: Tensor, name: str, n: int) -> Tensor:
        """Its norms on queries and keys are over all heads at once."""
        whole = self.linear(x, self.at(i, f"self_attn.{name}_proj"))
        return heads(
            self.maybe_norm(i, whole, None if name == "v" else f"self_attn.{name}_norm"), n
        )


class Granite(Llama):
    def embed(self, ids: Tensor) -> Tensor:
        return super().embed(ids) * self.c.embedding_multiplier

    def scale(self, width: int) -> float:
        return self.c.attention_multiplier

    def attention(self, i: int, x: Tensor) -> Tensor:
        return super().attention(i, x) * self.c.residual_multiplier

    def ffn(self, i: int, x: Tensor) -> Tensor:
        return super().ffn(i, x) * self.c.residual_multiplier

    def head(self, x: Tensor) -> Tensor:
        return super().head(x) / self.c.logits_scaling


class StableLm(Llama):
    eps = "layer_norm_eps"

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        self.parallel = self.c.use_parallel_residual
        self.before = ("input_layernorm",) * 2 if self.parallel else Llama.before

    def projected(self, i: int, x: Tensor, name: str, n: int) -> Tensor:
        """Each head has a norm of its own, without bias."""
        one = super().projected(i, x, name, n)
        if name == "v" or not self.c.qk_layernorm:
            return one
        names = (self.at(i, f"self_attn.{name}_layernorm.norms.{j}.weight") for j in range(n))
        weight = torch.stack([self.w[each] for each in names])[:, None]
        return layer_norm(one, weight, 0.0, self.c.layer_norm_eps)


class Cohere(Llama):
    parallel = True
    before = ("input_layernorm", "input_layernorm")
    interleaved = True

    def norm(self, x: Tensor, name: str) -> Tensor:
        weight = self.w[f"{name}.weight"]  # of queries and keys: [head, width]
        weight = weight if weight.ndim == 1 else weight[:, None]
        return layer_norm(x, weight, 0.0, self.c.layer_norm_eps)

    def head(self, x: Tensor) -> Tensor:
        return super().head(x) * self.c.logit_scale


NETS = {"gpt2": Gpt2, "gptj": GptJ, "bloom": Bloom, "gpt_neox": GptNeoX, "falcon": Falcon}
NETS |= {"opt": Opt, "llama": Llama, "qwen2": Llama, "qwen3": Llama, "mistral": Llama}
NETS |= {"phi3": Phi3, "gemma": Gemma, "gemma2": Gemma2, "gemma3_text": Gemma3, "olmo2": Olmo2}
NETS |= {"granite": Granite, "stablelm": StableLm, "cohere": Cohere}


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
