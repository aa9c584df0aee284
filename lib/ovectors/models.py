"""Language models: loaded by name, what was loaded on record, checked before it is used."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ovectors.catalogue import (
    BYTES,
    ModelSpec,
    catalogue,
    catalogue_rows,
    model_spec,
    weight_files,
)
from ovectors.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from ovectors.architectures import Architecture

__all__ = [
    "DTYPES",
    "LanguageModel",
    "ModelSpec",
    "catalogue",
    "catalogue_rows",
    "load_model",
    "model_spec",
    "weight_files",
]

DTYPES = ("auto", *BYTES)


@dataclass(kw_only=True, eq=False)
class LanguageModel:
    """A causal language model with its tokenizer and its wiring.

    Weights are loaded when `model` is first asked for: who finds all results computed needs none.

    Attributes:
        name: short, safe as a folder's name.
        config, tokenizer: as transformers has them.
        known_architecture: where its parts are; None for a family that nobody has written down.
        provenance: what was loaded, for the record: name, source, quantisation (where it was
            converted from a GGUF file), revision, commit, dtype, device, parameters, device_map
            (these two once the weights are in), versions.
        load: gives the weights.
        check: whether the self-check runs as soon as they are there.
    """

    name: str
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    known_architecture: Architecture | None
    provenance: dict
    load: Callable[[], PreTrainedModel] = field(repr=False)
    check: bool = True
    _model: PreTrainedModel | None = field(default=None, repr=False, init=False)

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        architecture: Architecture | None = None,
    ) -> LanguageModel:
        """Wrap a model that is in memory already, one that is being trained, say; unchecked."""
        from ovectors.architectures import architecture_for

        return cls(
            name=name,
            config=model.config,
            tokenizer=tokenizer,
            known_architecture=architecture or architecture_for(model.config),
            provenance={"name": name, "source": "memory", "versions": _versions()},
            load=lambda: model,
            check=False,
        )

    @property
    def model(self) -> PreTrainedModel:
        """The model itself. The first call loads the weights and, with `check`, runs the
        self-check: UserError if they cannot be loaded or the model fails it."""
        if self._model is None:
            loaded = self._model = self.load()
            self.provenance["parameters"] = sum(one.numel() for one in loaded.parameters())
            placed = getattr(loaded, "hf_device_map", None) or {"": loaded.device}
            self.provenance["device_map"] = {at: str(device) for at, device in placed.items()}
            self.provenance["dtype"] = str(loaded.dtype).removeprefix("torch.")
            if self.check or self.known_architecture is None:
                self._check()
        return self._model

    @property
    def architecture(self) -> Architecture:
        """Where its parts are; for a family that nobody has written down it is looked for in the
        model, whose weights are loaded for that, and has to pass the self-check."""
        if self.known_architecture is None:
            _ = self.model
        return self.known_architecture

    @architecture.setter
    def architecture(self, wiring: Architecture) -> None:
        self.known_architecture = wiring

    def _check(self) -> None:
        from ovectors.selfcheck import self_check  # it measures, so it knows stream and lens
        from ovectors.wiring import found_in

        known = self.known_architecture
        try:
            if known is None:
                self.known_architecture = found_in(self._model, self.tokenizer)
            if self.check or known is None:
                self_check(self)
        except BaseException:
            self._model, self.known_architecture = None, known  # what failed is never used
            raise

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._model is not None

    @property
    def layers(self) -> nn.ModuleList:
        """The blocks, first to last."""
        return self.architecture.layers_of(self.model)

    @property
    def n_layers(self) -> int:
        """How many blocks there are."""
        return self.config.num_hidden_layers

    @property
    def d_model(self) -> int:
        """The width of the residual stream."""
        return self.config.hidden_size

    @property
    def vocab_size(self) -> int:
        """Rows of the head: padded ones, which are no token, counted."""
        return self.config.vocab_size

    @cached_property
    def token_ids(self) -> tuple[int, ...]:
        """The ids that stand for a token, in order."""
        return tuple(sorted(set(self.tokenizer.get_vocab().values())))

    @property
    def window(self) -> int | None:
        """How many tokens back a layer with a sliding window sees; None where none has one."""
        kinds = getattr(self.config, "layer_types", None)
        if kinds is not None and not any("sliding" in kind for kind in kinds):
            return None
        return getattr(self.config, "sliding_window", None)

    @property
    def max_length(self) -> int | None:
        """The most tokens a prompt may have; None where there is no such limit (ALiBi)."""
        return getattr(self.config, "max_position_embeddings", None)

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        """Where token ids go in."""
        from ovectors.forward import execution_device

        return execution_device(self.model.get_input_embeddings())

    def layer_numbers(self, layers: Sequence[int] | None) -> tuple[int, ...]:
        """`layers` counted from 0, all of them for None; -1 is the last. UserError out of range."""
        if layers is None:
            return tuple(range(self.n_layers))
        for layer in layers:
            if not -self.n_layers <= layer < self.n_layers:
                raise UserError(
                    f"{self.name} has no layer {layer}: its layers are 0 to {self.n_layers - 1}"
                )
        return tuple(int(layer) % self.n_layers for layer in layers)


def load_model(
    name: str | Path,
    *,
    device: str | Mapping[str, str | int] = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    check: bool = True,
) -> LanguageModel:
    """Open a model; its weights follow when they are first needed (`LanguageModel.model`).

    Args:
        name: a catalogue name, any other hub id, a folder, or a GGUF file, here or on the hub.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" for the GPUs where there are any, with what
            does not fit on them in main memory and on disk; or a device map as accelerate takes it.
        dtype: one of DTYPES. "auto" is the catalogue's, else as stored, but never float16 on a CPU.
        revision: a branch, tag or commit on the hub, in place of the catalogue's.
        check: run the self-check on the weights. It costs three passes over two short prompts.

    UserError, in one line, for whatever is wrong with any of these or with the model's files.
    """
    from ovectors.architectures import architecture_for
    from ovectors.loading import find, load_config, load_tokenizer, load_weights

    if dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}{_near(dtype)}: it is one of {', '.join(DTYPES)}")
    spec = model_spec(name)
    placed = _placement(device)
    source = find(spec, revision)
    config = load_config(source)
    architecture = architecture_for(config)  # refuses some settings before anything heavy
    tokenizer = load_tokenizer(source, config)
    numbers = _dtype(dtype, spec, config, cpu=placed is None)
    return LanguageModel(
        name=spec.name,
        config=config,
        tokenizer=tokenizer,
        known_architecture=architecture,
        provenance={
            "name": spec.name,
            "source": spec.source,
            **({"quantisation": spec.gguf.quantisation} if spec.gguf else {}),
            "revision": revision or spec.revision,
            "commit": source.commit,
            "dtype": str(numbers).removeprefix("torch."),
            "device": device if isinstance(device, str) else "device map",
            "versions": _versions(),
        },
        load=lambda: load_weights(source, config, dtype=numbers, device_map=placed),
        check=check,
    )


def _near(dtype: str) -> str:
    near = difflib.get_close_matches(str(dtype), DTYPES, n=1)
    return f", did you mean {near[0]}?" if near else ""


def _placement(device: str | Mapping[str, str | int]) -> dict | str | None:
    """The device map for accelerate, None for the CPU alone."""
    import torch

    if isinstance(device, Mapping):
        return dict(device)
    if device == "auto":
        return "auto" if torch.cuda.is_available() else None
    kind, _, number = str(device).partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdecimal()):
        raise UserError(f"unknown device {device!r}: it is auto, cpu, cuda, cuda:NUMBER or mps")
    if kind == "cpu":
        return None
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps' was asked for, and this machine has none: take auto or cpu")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise UserError(f"device {device!r} was asked for, but no CUDA GPU is here: take cpu")
        if int(number or 0) >= count:
            raise UserError(f"there is no device {device!r}: this machine has {count} GPUs")
    return {"": device}


def _dtype(asked: str, spec: ModelSpec, config: PretrainedConfig, *, cpu: bool) -> torch.dtype:
    """What the weights are loaded as. On a CPU, half precision is slow and its noise is not wanted:
    what is stored in float16 without a word in the catalogue runs there in float32."""
    import torch

    chosen = spec.dtype if asked == "auto" else asked
    if chosen is not None:
        return getattr(torch, chosen)
    stored = getattr(config, "dtype", None) or torch.float32
    stored = getattr(torch, stored) if isinstance(stored, str) else stored
    return torch.float32 if cpu and stored is torch.float16 else stored


def _versions() -> dict[str, str]:
    return {package: version(package) for package in ("torch", "transformers", "accelerate")}
