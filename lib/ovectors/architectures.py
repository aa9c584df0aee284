"""Where each family keeps layers, contributions, norms and head: nothing else knows families."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from ovectors.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

# Settings of related families that change logits after the head, or scale what a layer adds.
# A supported family does not have them; a fork of one may, and would give silent wrong numbers.
FOREIGN_SETTINGS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "residual_multiplier",
    "embedding_multiplier",
)

# What the blocks of all families are given beside the states, by name: what must be done to each so
# that one block can be run again for a single token (`one_token`). A block that is given a tensor
# of another name is not run again: the sweep then takes whole passes (`sweeps`).
BLOCK_INPUTS = {
    "attention_mask": "mask",  # [row, head, token, key], added to the scores
    "position_ids": "per token",  # [row, token]
    "position_embeddings": "per token",  # a pair of [row, token, channel]
    "alibi": "per key",  # [row x head, 1, key]
    "past_key_values": "cache",
    "layer_past": "cache",
    "use_cache": "flag",
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Dotted paths into a Hugging Face causal language model.

    Attributes:
        family: the config's `model_type`.
        layers: the list of blocks, from the model.
        ffn: the module whose output is exactly what the FFN adds to the stream, from a block.
        attention: the same for attention.
        projection: the last matrix of the FFN, from a block: what it reads are the activations of
            the FFN's neurons (in a gated FFN the gated ones), and its rows what each one adds.
        mid: the norm whose input is the mid residual, from a block; None where attention and FFN
            run in parallel, so that no such state exists.
        final_norm: the norm before the head, from the model.
        head: the language-modelling head, from the model. `a|b` means: `a`, or `b` where a version
            of transformers calls it so.
    """

    family: str
    layers: str
    ffn: str
    attention: str
    projection: str
    mid: str | None
    final_norm: str
    head: str = "lm_head"

    def layers_of(self, model: PreTrainedModel) -> nn.ModuleList:
        """The blocks of `model`, first to last."""
        return module_at(model, self.layers)

    def ffn_of(self, layer: nn.Module) -> nn.Module:
        """The module of a block whose output is the FFN contribution."""
        return module_at(layer, self.ffn)

    def attention_of(self, layer: nn.Module) -> nn.Module:
        """The module of a block whose output is the attention contribution."""
        return module_at(layer, self.attention)

    def projection_of(self, layer: nn.Module) -> nn.Module:
        """The module of a block that reads the activations of the FFN's neurons."""
        return module_at(layer, self.projection)

    def mid_of(self, layer: nn.Module) -> nn.Module:
        """The norm of a block whose input is the mid residual; UserError where there is none."""
        if self.mid is None:
            raise UserError(
                f"{self.family} runs attention and FFN in parallel here, so it has no mid "
                "residual: ask for 'before', 'after', 'attention' or 'ffn'"
            )
        return module_at(layer, self.mid)

    def contribution_of(self, layer: nn.Module, kind: str) -> nn.Module:
        """The module of a block that gives the contribution `kind`: "ffn" or "attention"."""
        if kind not in ("ffn", "attention"):
            raise UserError(f"a contribution is 'ffn' or 'attention', not {kind!r}")
        return self.ffn_of(layer) if kind == "ffn" else self.attention_of(layer)

    def final_norm_of(self, model: PreTrainedModel) -> nn.Module:
        """The norm that the model applies to the last state before its head."""
        return module_at(model, self.final_norm)

    def head_of(self, model: PreTrainedModel) -> nn.Module:
        """The language-modelling head, a module to call (it may have a bias)."""
        return module_at(model, self.head)


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The module at a dotted `path` below `root`; the first that exists of `a|b`."""
    for candidate in path.split("|"):
        try:
            return attrgetter(candidate)(root)
        except AttributeError:
            continue
    raise UserError(
        f"{type(root).__name__} has no module {path!r}: its wiring is not the expected one"
    )


def _gpt2(config: PretrainedConfig) -> Architecture:
    return Architecture(
        family="gpt2",
        layers="transformer.h",
        ffn="mlp",
        attention="attn",
        projection="mlp.c_proj",
        mid="ln_2",
        final_norm="transformer.ln_f",
    )


def _gptj(config: PretrainedConfig) -> Architecture:
    return Architecture(
        family="gptj",
        layers="transformer.h",
        ffn="mlp",
        attention="attn",
        projection="mlp.fc_out",
        mid=None,
        final_norm="transformer.ln_f",
    )


def _bloom(config: PretrainedConfig) -> Architecture:
    """BLOOM adds the residual inside `mlp` and `self_attention`: hook their last matrices."""
    if config.slow_but_exact and config.pretraining_tp > 1:
        raise UserError(
            "this BLOOM has slow_but_exact with pretraining_tp > 1, which bypasses the modules "
            "that are recorded: set slow_but_exact to false in its config.json"
        )
    if config.apply_residual_connection_post_layernorm:
        raise UserError(
            "this BLOOM has apply_residual_connection_post_layernorm, whose layers do not add to "
            "one residual stream: it cannot be early decoded"
        )
    return Architecture(
        family="bloom",
        layers="transformer.h",
        ffn="mlp.dense_4h_to_h",
        attention="self_attention.dense",
        projection="mlp.dense_4h_to_h",
        mid="post_attention_layernorm",
        final_norm="transformer.ln_f",
    )


def _gpt_neox(config: PretrainedConfig) -> Architecture:
    return Architecture(
        family="gpt_neox",
        layers="gpt_neox.layers",
        ffn="mlp",
        attention="attention",
        projection="mlp.dense_4h_to_h",
        mid=None if config.use_parallel_residual else "post_attention_layernorm",
        final_norm="gpt_neox.final_layer_norm",
        head="lm_head|embed_out",
    )


def _llama(config: PretrainedConfig) -> Architecture:
    """Llama, and the Qwen generations that kept its wiring."""
    return Architecture(
        family=config.model_type,
        layers="model.layers",
        ffn="mlp",
        attention="self_attn",
        projection="mlp.down_proj",
        mid="post_attention_layernorm",
        final_norm="model.norm",
    )


_FAMILIES = {
    "gpt2": _gpt2,
    "gptj": _gptj,
    "bloom": _bloom,
    "gpt_neox": _gpt_neox,
    "llama": _llama,
    "qwen2": _llama,
    "qwen3": _llama,
}
FAMILIES = tuple(_FAMILIES)


def architecture_for(config: PretrainedConfig) -> Architecture:
    """The wiring of the model that `config` describes; UserError for what is not supported.

    It is a function of the whole config, not of the family's name alone: the same class is wired
    differently under different settings. The self-check then tests it on the loaded weights.
    """
    family = getattr(config, "model_type", None)
    if family not in _FAMILIES:
        raise UserError(
            f"architecture {family!r} is not supported: supported are {', '.join(FAMILIES)}"
        )
    if getattr(config, "quantization_config", None):
        raise UserError(
            "these weights are quantised, which changes what is measured: take unquantised ones"
        )
    for setting in FOREIGN_SETTINGS:
        if getattr(config, setting, None) not in (None, 1, 1.0):
            raise UserError(
                f"this {family} sets {setting}, so norm and head alone do not give its logits: "
                "it cannot be early decoded"
            )
    return _FAMILIES[family](config)
