"""What every contestant is asked, and the form in which it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ovectors.encoding import EncodedPrompts

WANTED = ("answer", "argument")


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """A start-layer sweep: one vector in place of what the FFNs add, from each layer to the last.

    Attributes:
        encoded: the prompts.
        vector: what is put in place.
        positions: where it is put: "last" (each prompt's last token) or "all".
        starts: the layers to start at, each a run of its own.
    """

    encoded: EncodedPrompts
    vector: Float[Tensor, " d_model"]
    positions: str
    starts: tuple[int, ...]

    @property
    def token_ids(self) -> tuple[tuple[int, ...], ...]:
        """The tokens of each prompt."""
        return self.encoded.token_ids

    @property
    def wanted(self) -> dict[str, Int[Tensor, " prompt"]]:
        """The tokens to rank: the first ones of answer and argument."""
        return {"answer": self.encoded.answer_ids, "argument": self.encoded.argument_ids}


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """Ranks of the wanted tokens and the top token, for each run (or decoded layer) and prompt.

    Attributes:
        ranks: 1 = top, ties get the middle rank.
        top: the token on top.
        logits: of the wanted tokens; None where a contestant does not hand them out.
    """

    ranks: Mapping[str, Float[np.ndarray, "run prompt"]]
    top: Int[np.ndarray, "run prompt"]
    logits: Mapping[str, Float[np.ndarray, "run prompt"]] | None = None


class Tally:
    """Gathers an answer from logits at the last token, a few rows at a time, by counting."""

    def __init__(self, question: Question, *, runs: int | None = None) -> None:
        shape = (runs or len(question.starts), len(question.encoded))
        self._wanted = question.wanted
        self._ranks = {name: np.empty(shape) for name in self._wanted}
        self._logits = {name: np.empty(shape) for name in self._wanted}
        self._top = np.empty(shape, dtype=np.int64)

    def add(
        self, run: int, rows: Int[Tensor, " row"], logits: Float[Tensor, "row vocabulary"]
    ) -> None:
        """Take the logits of these prompts in one run."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        for name, ids in self._wanted.items():
            own = logits.gather(1, ids[rows].to(logits.device)[:, None])
            larger, equal = (logits > own).sum(dim=1), (logits == own).sum(dim=1)
            self._ranks[name][run, rows] = (1 + larger + (equal - 1) / 2).cpu()
            self._logits[name][run, rows] = own[:, 0].cpu()
        self._top[run, rows] = logits.argmax(dim=1).cpu()

    def answer(self) -> Answer:
        """What was gathered."""
        return Answer(ranks=self._ranks, top=self._top, logits=self._logits)


@dataclass(frozen=True, kw_only=True, eq=False)
class Padded:
    """Some prompts in one rectangle, padded on the right; `rows` says which they are."""

    rows: Int[Tensor, " row"]
    ids: Int[Tensor, "row token"]
    mask: Bool[Tensor, "row token"]

    @property
    def last(self) -> Int[Tensor, " row"]:
        """The place of each prompt's last token."""
        return self.mask.sum(dim=1) - 1


def padded(
    token_ids: Sequence[Sequence[int]], *, rows: int, device: torch.device | str = "cpu"
) -> Iterator[Padded]:
    """The prompts in batches of at most `rows`, the short ones first so that little is padded."""
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        width = max(len(token_ids[row]) for row in chosen)
        ids = torch.zeros(len(chosen), width, dtype=torch.long)
        mask = torch.zeros(len(chosen), width, dtype=torch.bool)
        for place, row in enumerate(chosen):
            length = len(token_ids[row])
            ids[place, :length] = torch.tensor(token_ids[row])
            mask[place, :length] = True
        yield Padded(rows=torch.tensor(chosen), ids=ids.to(device), mask=mask.to(device))
