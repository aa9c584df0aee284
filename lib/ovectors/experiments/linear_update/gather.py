"""Chapter 2's tables of several relations, from the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ovectors.experiments.linear_update.measure.arithmetic import arithmetic
from ovectors.experiments.linear_update.measure.cosines import cosines
from ovectors.experiments.linear_update.measure.linearity import linearity
from ovectors.experiments.linear_update.measure.neurons import neurons
from ovectors.experiments.linear_update.measure.switches import switches
from ovectors.experiments.shared.tables import together

if TYPE_CHECKING:
    from ovectors.store import Store


def switch_table(store: Store, relations: Sequence[str], **drawn: Any) -> pd.DataFrame:
    """The tables of `switches` as one; `drawn` are n_items and seed, here and below."""
    return together([store.table(switches, relation=one, **drawn) for one in relations])


def arithmetic_table(store: Store, relations: Sequence[str], **drawn: Any) -> pd.DataFrame:
    """The tables of `arithmetic` as one, each item with the o vector of its switching layer."""
    return together([store.table(arithmetic, relation=one, **drawn) for one in relations])


def paper_tables(store: Store, relations: Sequence[str], **drawn: Any) -> dict[str, pd.DataFrame]:
    """The table of `arithmetic` with the paper's own layer, by `relation@layer`.

    For the relations that it names a layer for on this model: none on most models.
    """
    return {
        f"{one}@{layer}": store.table(arithmetic, relation=one, layer=layer, **drawn)
        for one, layer in store.spec.o_layers.items()
        if one in relations
    }


def linearity_table(store: Store, relations: Sequence[str], **drawn: Any) -> pd.DataFrame:
    """The table of `linearity`, which is about all relations together."""
    return store.table(linearity, relations=relations, **drawn)


def cosine_table(store: Store, relations: Sequence[str], **drawn: Any) -> pd.DataFrame:
    """The table of `cosines`, which is about all relations together."""
    return store.table(cosines, relations=relations, **drawn)


def neuron_table(store: Store, relations: Sequence[str], **drawn: Any) -> pd.DataFrame:
    """The tables of `neurons` as one."""
    return together([store.table(neurons, relation=one, **drawn) for one in relations])
