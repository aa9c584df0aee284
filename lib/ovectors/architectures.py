"""Where each family keeps layers, contributions, norms and head: nothing else knows families."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from ovectors.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

# Settings that scale logits after the head, or what a layer adds. A family that has them says so in
# its entry below; in another one, a fork's, they would give silent wrong numbers.
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
    "alibi": "per key",  # [row x head, 1, key] or [row, head, 1, key]
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
        mid: the module whose input is the mid residual, from a block; None where attention and FFN
            run in parallel, so that no such state exists.
        final_norm: the norm before the head, from the model.
        head: the language-modelling head, from the model. `a|b` means: `a`, or `b` where a version
            of transformers calls it so.
        multiplier: what the outputs of `ffn` and `attention` are multiplied by before they are
            added (Granite's residual_multiplier).
        logit_scale, logit_divisor, softcap: what the model makes of its head's logits, in this
            order: times the first, divided by the second, and capped by tanh to plus and minus the
            third where there is one.
    """

    family: str
    layers: str
    ffn: str
    attention: str
    projection: str
    mid: str | None
    final_norm: str
    head: str = "lm_head"
    multiplier: float = 1.0
    logit_scale: float = 1.0
    logit_divisor: float = 1.0
    softcap: float | None = None

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
        """The module of a block that reads the activations of the FFN's neurons; UserError where
        there is no such matrix (in a mixture of experts)."""
        if not self.projection:
            raise UserError(f"the FFN of {self.family} has no one matrix that its neurons add by")
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

    def contribution_in(
        self, output: Tensor | tuple, rows: int
    ) -> Float[Tensor, "row token d_model"]:
        """What the output of `ffn` or `attention` adds to the stream in a pass over `rows` rows.

        A module may give a tuple that starts with it, or rows and tokens in one axis (OPT's FFN).
        """
        added = output[0] if isinstance(output, tuple) else output
        added = added.unflatten(0, (rows, -1)) if added.ndim == 2 else added
        return added if self.multiplier == 1 else added * self.multiplier

    def output_with(
        self, added: Float[Tensor, "row token d_model"], output: Tensor | tuple
    ) -> Tensor | tuple:
        """`output` as its module would have given it, had it added `added` to the stream."""
        old = output[0] if isinstance(output, tuple) else output
        added = added if self.multiplier == 1 else added / self.multiplier
        added = added.reshape(old.shape)
        return (added, *output[1:]) if isinstance(output, tuple) else added

    def contribution_of_projection(
        self, layer: nn.Module, projected: Float[Tensor, "row d_model"]
    ) -> Float[Tensor, "row d_model"]:
        """What the FFN adds where its last matrix gives `projected`, one token a row: a norm that
        stands behind it (Gemma 2, OLMo 2) is applied."""
        if not f"{self.projection}.".startswith(f"{self.ffn}."):
            projected = self.ffn_of(layer)(projected)
        return projected if self.multiplier == 1 else projected * self.multiplier

    def logits_from(self, logits: Float[Tensor, "... vocabulary"]) -> Tensor:
        """The model's logits from what its head gives, with the model's own steps in its dtype."""
        logits = logits if self.logit_scale == 1 else logits * self.logit_scale
        logits = logits if self.logit_divisor == 1 else logits / self.logit_divisor
        return logits if self.softcap is None else (logits / self.softcap).tanh() * self.softcap

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


def _gpt2(config: PretrainedConfig) -> dict:
    return {
        "layers": "transformer.h",
        "ffn": "mlp",
        "attention": "attn",
        "projection": "mlp.c_proj",
        "mid": "ln_2",
        "final_norm": "transformer.ln_f",
    }


def _gptj(config: PretrainedConfig) -> dict:
    return {**_gpt2(config), "projection": "mlp.fc_out", "mid": None}


def _bloom(config: PretrainedConfig) -> dict:
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
    return {
        "layers": "transformer.h",
        "ffn": "mlp.dense_4h_to_h",
        "attention": "self_attention.dense",
        "projection": "mlp.dense_4h_to_h",
        "mid": "post_attention_layernorm",
        "final_norm": "transformer.ln_f",
    }


def _falcon(config: PretrainedConfig) -> dict:
    parallel = config.parallel_attn or config.new_decoder_architecture
    return {
        "layers": "transformer.h",
        "ffn": "mlp",
        "attention": "self_attention",
        "projection": "mlp.dense_4h_to_h",
        "mid": None if parallel else "post_attention_layernorm",
        "final_norm": "transformer.ln_f",
    }


def _gpt_neox(config: PretrainedConfig) -> dict:
    return {
        "layers": "gpt_neox.layers",
        "ffn": "mlp",
        "attention": "attention",
        "projection": "mlp.dense_4h_to_h",
        "mid": None if config.use_parallel_residual else "post_attention_layernorm",
        "final_norm": "gpt_neox.final_layer_norm",
        "head": "lm_head|embed_out",
    }


def _opt(config: PretrainedConfig) -> dict:
    """OPT, but for its 350M size, which normalises after adding: there is no stream to decode."""
    if (
        not config.do_layer_norm_before
        or config._remove_final_layer_norm
        or config.word_embed_proj_dim != config.hidden_size
    ):
        raise UserError(
            "this OPT normalises the stream after adding to it, or projects it before its head "
            "(as the 350M size does): it cannot be early decoded"
        )
    return {
        "layers": "model.decoder.layers",
        "ffn": "fc2",
        "attention": "self_attn",
        "projection": "fc2",
        "mid": "final_layer_norm",
        "final_norm": "model.decoder.final_layer_norm",
    }


def _llama(config: PretrainedConfig) -> dict:
    """Llama, and the families that kept its wiring."""
    return {
        "layers": "model.layers",
        "ffn": "mlp",
        "attention": "self_attn",
        "projection": "mlp.down_proj",
        "mid": "post_attention_layernorm",
        "final_norm": "model.norm",
    }


def _gemma2(config: PretrainedConfig) -> dict:
    """What is added leaves the norms after attention and FFN, and logits may be capped."""
    return {
        **_llama(config),
        "ffn": "post_feedforward_layernorm",
        "attention": "post_attention_layernorm",
        "mid": "pre_feedforward_layernorm",
        "softcap": config.final_logit_softcapping,
    }


def _olmo2(config: PretrainedConfig) -> dict:
    """Norms after attention and FFN alone: the FFN reads the mid residual itself."""
    added = {"ffn": "post_feedforward_layernorm", "attention": "post_attention_layernorm"}
    return {**_llama(config), **added, "mid": "mlp"}


def _stablelm(config: PretrainedConfig) -> dict:
    return {**_llama(config), **({"mid": None} if config.use_parallel_residual else {})}


def _granite(config: PretrainedConfig) -> dict:
    scaled = {"multiplier": config.residual_multiplier, "logit_divisor": config.logits_scaling}
    return {**_llama(config), **scaled}


def _cohere(config: PretrainedConfig) -> dict:
    return {**_llama(config), "mid": None, "logit_scale": config.logit_scale}


_FAMILIES = {
    "gpt2": _gpt2,
    "gptj": _gptj,
    "bloom": _bloom,
    "falcon": _falcon,
    "gpt_neox": _gpt_neox,
    "opt": _opt,
    **dict.fromkeys(("llama", "mistral", "phi3", "qwen2", "qwen3", "gemma"), _llama),
    **dict.fromkeys(("gemma2", "gemma3_text"), _gemma2),
    "olmo2": _olmo2,
    "stablelm": _stablelm,
    "granite": _granite,
    "cohere": _cohere,
}
_SCALING = {
    "gemma2": ("final_logit_softcapping",),
    "gemma3_text": ("final_logit_softcapping",),
    "granite": ("residual_multiplier", "embedding_multiplier", "logits_scaling"),
    "cohere": ("logit_scale",),
}
"""Those of FOREIGN_SETTINGS that a family's entry above allows for."""
FAMILIES = tuple(_FAMILIES)


def architecture_for(config: PretrainedConfig) -> Architecture | None:
    """The wiring of the model that `config` describes; None for a family that is not in the table:
    its wiring has to be looked for in the model (`wiring.found_in`).

    It is a function of the whole config, not of the family's name alone: the same class is wired
    differently under different settings. The self-check then tests it on the loaded weights.
    UserError for settings under which there is no stream to decode.
    """
    family = config.model_type
    if getattr(config, "quantization_config", None):
        raise UserError(
            "these weights are quantised, which changes what is measured: take unquantised ones"
        )
    if family not in _FAMILIES:
        return None
    if getattr(config, "use_bidirectional_attention", None):
        raise UserError(f"this {family} lets tokens see later ones: it predicts no next token")
    for setting in FOREIGN_SETTINGS:
        known = setting in _SCALING.get(family, ())
        if not known and getattr(config, setting, None) not in (None, 1, 1.0):
            raise UserError(
                f"this {family} sets {setting}, so norm and head alone do not give its logits: "
                "it cannot be early decoded"
            )
    return Architecture(family=family, **_FAMILIES[family](config))
