"""Weights that the chapters of one process share: loaded once, handed to each in a new model.

Every `open_model` opens config and tokenizer anew, so that nothing of an earlier chapter is in
them; only the weights are the same. They are shared for as long as somebody uses them, and beyond
that where the process serves one model (`keep`), as a batch's kernel does.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ovectors import catalogue, keys, uses

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ovectors.models import LanguageModel


_loaded: WeakValueDictionary[str, PreTrainedModel] = WeakValueDictionary()
_marks: dict[str, tuple[object, ...]] = {}
_kept: dict[str, PreTrainedModel] = {}
_served = ""


def keep(name: str) -> None:
    """Let the weights of this model, and of no other, stay in memory when nobody uses them."""
    global _served
    _served = catalogue.model_spec(name).name if name else ""


def open_model(name: str, *, device: str, dtype: str) -> LanguageModel:
    """`models.load_model`, with weights that this process may hold already.

    They are loaded, and checked, when they are first asked for.
    """
    from ovectors.models import load_model

    opened = load_model(name, device=device, dtype=dtype)
    key = json.dumps([keys.model_identity(catalogue.model_spec(name)), device, dtype])
    return replace(opened, load=lambda: _weights(opened, key), check=False)


def _weights(opened: LanguageModel, key: str) -> PreTrainedModel:
    """The weights of a model that was opened, which itself never gets any: loaded and checked,
    unless they are here as they were then."""
    import torch

    weights = _loaded.get(key)
    if weights is None or _marks_of(weights) != _marks[key]:
        if opened.name == _served:
            _kept.clear()  # first, so that never two models of this size are in memory
        del weights
        with torch.inference_mode(False):  # what is loaded in it can never be differentiated
            weights = replace(opened, provenance={}).model
        uses.write_load(opened.name)
        _loaded[key], _marks[key] = weights, _marks_of(weights)
    if opened.name == _served:
        _kept[key] = weights
    return weights


def _marks_of(weights: PreTrainedModel) -> tuple[object, ...]:
    """What changes when weights are edited in place, or hooks are left on them."""
    hooks = [
        len(part._forward_hooks) + len(part._forward_pre_hooks) + part.training
        for part in weights.modules()
    ]
    versions = [one._version for one in weights.parameters() if not one.is_meta]
    return (*hooks, *versions)
