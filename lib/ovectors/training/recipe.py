"""The settings of a training run, one table per model size in recipes.toml."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from importlib import resources

from ovectors.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Sizes in layers, channels, sequences and tokens; rates per step."""

    name: str
    seed: int
    n_layer: int
    n_embd: int
    n_head: int
    n_positions: int
    steps: int
    context_steps: int
    rows: int
    length: int
    learning_rate: float
    matrix_learning_rate: float
    final_learning_rate: float
    warmup_steps: int
    weight_decay: float
    clip: float
    initializer_range: float
    layer_drop: float
    checkpoint_every: int

    def share(self, step: int) -> float:
        """The learning rates of a step as a share of their peaks: linear warm-up, then cosine."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.final_learning_rate + (1 - self.final_learning_rate) * cosine

    def drop(self, step: int) -> float:
        """The chance that a layer sits out this step: `layer_drop` at first, none at the end."""
        return self.layer_drop * (1 - step / self.steps)


def load_recipe(name: str, **overrides: int | float | None) -> Recipe:
    """The recipe of that name; a UserError lists the names when there is none."""
    text = resources.files("ovectors.training").joinpath("recipes.toml").read_text("utf-8")
    tables = tomllib.loads(text)
    defaults = tables.pop("defaults")
    if name not in tables:
        raise UserError(f"no recipe named {name!r}: choose one of {', '.join(sorted(tables))}")
    settings = defaults | tables[name] | {k: v for k, v in overrides.items() if v is not None}
    known = {field.name for field in fields(Recipe)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UserError(f"recipe {name!r} has unknown settings: {', '.join(unknown)}")
    return Recipe(name=name, **settings)
