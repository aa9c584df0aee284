"""An affine map from a state to what an FFN adds to it: a yardstick for the mean vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_TO_FIT = 2
PENALTIES = tuple(10.0**power for power in range(-4, 5))


@dataclass(frozen=True, kw_only=True, eq=False)
class AffineMap:
    """What an FFN adds, guessed from the state `x` it is added to: `mean + (x - centre) W`.

    Attributes:
        mean: the mean of what is added, over the items it was fitted on.
        centre: the mean of their states.
        states, coefficients: `W` is `states.T @ coefficients`; items are fewer than dimensions, so
            that the two factors are the smaller thing to keep.
        penalty: the ridge penalty, as a multiple of the states' mean squared distance from their
            centre; infinite where `W` is zero and nothing but the mean is left.
    """

    mean: Float[Tensor, " d_model"]
    centre: Float[Tensor, " d_model"]
    states: Float[Tensor, "fitted d_model"]
    coefficients: Float[Tensor, "fitted d_model"]
    penalty: float

    def __call__(self, x: Float[Tensor, "item d_model"]) -> Float[Tensor, "item d_model"]:
        near = (x.to(self.mean.dtype) - self.centre) @ self.states.T
        return (self.mean + near @ self.coefficients).to(x.dtype)


def fit_affine(
    states: Float[Tensor, "item d_model"], added: Float[Tensor, "item d_model"]
) -> AffineMap:
    """Ridge regression of what is added on the state it is added to, in float64.

    The constant is not penalised, so that an infinite penalty leaves the mean vector. The penalty
    is the one of PENALTIES, or infinity, with the least squared error when each item is predicted
    from all others (leave one out, in closed form). ValueError for fewer than two items.
    """
    if len(states) < LEAST_TO_FIT:
        raise ValueError("an affine map takes at least two items")
    x, y = states.double(), added.double()
    centre, mean = x.mean(dim=0), y.mean(dim=0)
    x, y = x - centre, y - mean
    values, basis = torch.linalg.eigh(x @ x.T)  # items are few: solve in their space
    values = values.clamp(min=0)
    unit = float(values.sum()) / len(x)
    rotated = basis.T @ y
    best, chosen = _loo_error(y, torch.zeros_like(y), torch.zeros_like(values)), torch.inf
    for penalty in PENALTIES if unit > 0 else ():
        shrunk = values / (values + penalty * unit)
        error = _loo_error(y, basis @ (shrunk[:, None] * rotated), basis.square() @ shrunk)
        if error < best:
            best, chosen = error, penalty
    coefficients = torch.zeros_like(y)
    if chosen < torch.inf:
        coefficients = basis @ (rotated / (values + chosen * unit)[:, None])
    return AffineMap(mean=mean, centre=centre, states=x, coefficients=coefficients, penalty=chosen)


def _loo_error(
    y: Float[Tensor, "item d_model"],
    guess: Float[Tensor, "item d_model"],
    leverage: Float[Tensor, " item"],
) -> float:
    """Squared error of leave-one-out predictions; the constant adds 1 / items to each leverage."""
    left = (1 - leverage - 1 / len(y)).clamp(min=1e-9)
    return float(((y - guess) / left[:, None]).square().sum())
