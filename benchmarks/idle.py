"""The same model, deeper: blocks that add nothing between those that do."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ovectors.models import LanguageModel


def stretched(model: LanguageModel, times: int, folder: Path) -> Path:
    """Save a GPT-2 with `times` as many blocks, which answers every prompt as `model` does.

    After each block come copies of it whose contributions are zero. So a deeper model can be asked
    the very same questions about the very same items: what more it costs is its depth's alone.
    """
    source = model.model
    config = copy.deepcopy(source.config)
    config.n_layer = times * model.n_layers
    deeper = type(source)(config).eval()
    deeper.load_state_dict(_weights(source.state_dict(), times))
    deeper.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    told = json.loads((folder / "config.json").read_text("utf-8"))
    assert told["n_layer"] == config.n_layer
    return folder


def _weights(weights: dict[str, torch.Tensor], times: int) -> dict[str, torch.Tensor]:
    found = {}
    for name, value in weights.items():
        block = name.removeprefix("transformer.h.")
        if block == name:
            found[name] = value
            continue
        number, _, rest = block.partition(".")
        for copied in range(times):
            idle = copied > 0 and ".c_proj." in f".{rest}"
            place = f"transformer.h.{int(number) * times + copied}.{rest}"
            found[place] = torch.zeros_like(value) if idle else value
    return found
