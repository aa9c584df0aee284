"""What many states decode to, in one go: ranks, the token on top, the answer's lead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovectors.errors import UserError
from ovectors.lens import Lens

CHUNK_BYTES = 8 * 2**20
"""Logits that are held at a time. Larger pieces take more memory and are no faster."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadOut:
    """The early decoding of some states, one entry a state.

    Attributes:
        rank_argument, rank_answer: 1 = top, ties get the middle rank, as in `lens.ranks`.
        lead: the answer's logit minus the argument's.
        top: the id of the token on top.
    """

    rank_argument: Float[np.ndarray, " state"]
    rank_answer: Float[np.ndarray, " state"]
    lead: Float[np.ndarray, " state"]
    top: Int[np.ndarray, " state"]

    @property
    def ranks(self) -> dict[str, np.ndarray]:
        """Both ranks, as columns of a table."""
        return {"rank_argument": self.rank_argument, "rank_answer": self.rank_answer}

    @property
    def measures(self) -> dict[str, np.ndarray]:
        """Ranks and lead, as columns of a table."""
        return self.ranks | {"lead": self.lead}


@torch.no_grad()
def read_out(
    lens: Lens,
    states: Float[Tensor, "state d_model"],
    argument_ids: Int[Tensor, " state"],
    answer_ids: Int[Tensor, " state"],
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> ReadOut:
    """Decode states once and read everything off the same logits, a chunk of them at a time.

    UserError where a logit is not a number.
    """
    pieces: dict[str, list[Tensor]] = {}
    rows = max(1, chunk_bytes // (4 * lens.vocab_size))
    for start in range(0, len(states) or 1, rows):  # no states at all are one empty chunk
        logits = lens(states[start : start + rows])
        if bool(logits.isnan().any()):
            raise UserError(
                "a logit is not a number: the model overflows in this dtype, "
                "run it in bfloat16 or float32"
            )
        wanted = [ids[start : start + rows, None] for ids in (argument_ids, answer_ids)]
        argument, answer = (logits.gather(1, ids.to(logits.device)) for ids in wanted)
        found = {"rank_argument": _ranks(logits, argument), "rank_answer": _ranks(logits, answer)}
        found |= {"lead": (answer - argument)[:, 0], "top": logits.argmax(dim=1)}
        for name, values in found.items():
            pieces.setdefault(name, []).append(values.cpu())
    return ReadOut(**{name: torch.cat(found).numpy() for name, found in pieces.items()})


def _ranks(logits: Float[Tensor, "row vocabulary"], own: Float[Tensor, "row 1"]) -> Tensor:
    """1 + (how many are larger) + half of (how many others are equal)."""
    larger = (logits > own).sum(dim=1)
    equal = (logits == own).sum(dim=1)
    return (1 + larger + (equal - 1) / 2).float()
