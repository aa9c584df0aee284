"""Keys and values that many prompts share: kept once, joined only while a layer reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from ovectors.forward import Batch, run_base

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

KeysValues = tuple[Float[Tensor, "row head token channel"], Float[Tensor, "row head token channel"]]


def alike(tokens: Sequence[Sequence[int]]) -> list[tuple[list[int], int]]:
    """The prompts in groups, each with how many tokens all of its prompts start with.

    One prompt with another demonstration would leave the others little to share. So a group is
    parted wherever more than half of it goes on with the same token, and ends where they go on with
    many. Every prompt is left with a token of its own.
    """
    groups, rest = [], list(range(len(tokens)))
    while rest:
        group, shared = rest, 0
        while (most := _going_on(tokens, group, shared)) and 2 * len(most) > len(group):
            group, shared = most, shared + 1
        shared = min([shared, *(len(tokens[row]) - 1 for row in group)])
        groups.append((group, shared))
        taken = set(group)
        rest = [row for row in rest if row not in taken]
    return groups


def _going_on(tokens: Sequence[Sequence[int]], group: Sequence[int], at: int) -> list[int]:
    """Those of a group that have the commonest token at this place, and one more after it."""
    here = Counter(tokens[row][at] for row in group if len(tokens[row]) > at + 1)
    if not here:
        return []
    token = here.most_common(1)[0][0]
    return [row for row in group if len(tokens[row]) > at + 1 and tokens[row][at] == token]


class PastLayer(CacheLayerMixin):
    """One layer's keys and values, in parts that stand one after another.

    Each part has a row for every prompt or one row for all. What a block adds is joined to them for
    this call alone; only a layer that is `recording` keeps it, as a part of its own.
    """

    is_sliding = False

    def __init__(self, parts: Sequence[KeysValues], *, recording: bool) -> None:
        super().__init__()
        self.parts, self.recording, self.new = tuple(parts), recording, None
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> KeysValues:
        """The parts and then the given keys and values, joined along the tokens."""
        if self.recording:
            self.new = (key_states, value_states)
        own = (key_states, value_states)
        return tuple(
            torch.cat(
                [*(self._rows(part[which], own[which]) for part in self.parts), own[which]], 2
            )
            if self.parts
            else own[which]
            for which in range(2)
        )

    @staticmethod
    def _rows(part: Tensor, like: Tensor) -> Tensor:
        return part.to(like.device).expand(len(like), *part.shape[1:])

    def get_seq_length(self) -> int:
        """How many tokens the parts hold together."""
        return sum(keys.shape[2] for keys, _ in self.parts)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Over how many keys a mask goes, and from which on: all of them."""
        return self.get_seq_length() + query_length, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to prepare: the parts are there from the start."""

    def get_max_length(self) -> int:
        """No limit, which Transformers writes as -1."""
        return -1

    def get_max_cache_shape(self) -> int:
        """No limit, which Transformers writes as -1."""
        return -1


@dataclass(frozen=True, eq=False)
class Past:
    """The past of some prompts in all layers, as a cache that the model's own blocks read.

    Attributes:
        cache: what is handed to the model.
    """

    cache: Cache

    @classmethod
    def of(cls, model: LanguageModel, tokens: Sequence[int]) -> Past:
        """The past that these tokens leave; of none at all, an empty one."""
        empty = cls(Cache(layers=[PastLayer((), recording=True) for _ in range(model.n_layers)]))
        if not tokens:
            return empty
        ids = torch.tensor([list(tokens)])
        batch = Batch(rows=torch.tensor([0]), token_ids=ids, mask=torch.ones_like(ids).bool())
        run_base(model, batch, cache=empty.cache)
        return empty.whole()

    @property
    def length(self) -> int:
        """How many tokens it holds, padding counted."""
        return self.cache.get_seq_length()

    def extended(self) -> Past:
        """The same past, for one more pass whose keys and values it will keep."""
        layers = [PastLayer(layer.parts, recording=True) for layer in self.cache.layers]
        return Past(Cache(layers=layers))

    def whole(self) -> Past:
        """After that pass: what was kept belongs to it, and nothing more is."""
        layers = [
            PastLayer((*layer.parts, layer.new), recording=False) for layer in self.cache.layers
        ]
        return Past(Cache(layers=layers))
