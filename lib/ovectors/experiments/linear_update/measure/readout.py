"""What many states decode to, in one go: ranks, the token on top, the answer's lead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ovectors.lens import Lens, decode

BUDGET_BYTES = 32 * 2**20
"""For the logits at hand. Larger pieces take more memory and are no faster."""


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


def read_out(
    lens: Lens,
    states: Float[Tensor, "state d_model"],
    argument_ids: Int[Tensor, " state"],
    answer_ids: Int[Tensor, " state"],
    *,
    budget_bytes: int = BUDGET_BYTES,
) -> ReadOut:
    """Decode states once and read everything off the same logits.

    UserError where a logit is not a number.
    """
    wanted = {"argument": argument_ids, "answer": answer_ids}
    found = decode(lens, states, wanted, budget_bytes=budget_bytes)
    return ReadOut(
        rank_argument=found.ranks["argument"].numpy(),
        rank_answer=found.ranks["answer"].numpy(),
        lead=(found.logits["answer"] - found.logits["argument"]).numpy(),
        top=found.top[:, 0].numpy(),
    )
