"""What updates which weights: Muon the matrices of the blocks, AdamW everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    from ovectors.training.recipe import Recipe


@dataclass(frozen=True)
class Optimizer:
    """Two optimizers that step together.

    Muon makes each update of a matrix orthogonal, so that all its directions are learned at one
    pace: on these documents copying forms sooner than with AdamW alone
    (`models/README.md` has the figures). Embeddings are tables, not maps, and stay with AdamW.
    """

    muon: torch.optim.Muon
    adam: torch.optim.AdamW

    def set_share(self, share: float) -> None:
        """Set all learning rates to this share of their peaks."""
        for group in (*self.muon.param_groups, *self.adam.param_groups):
            group["lr"] = share * group["peak"]

    def step(self) -> None:
        """Update all weights from their gradients."""
        self.muon.step()
        self.adam.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.muon.zero_grad(set_to_none=True)
        self.adam.zero_grad(set_to_none=True)

    def state_dict(self) -> dict:
        """What a checkpoint has to keep."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what a checkpoint kept."""
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


def new_optimizer(model: GPT2LMHeadModel, recipe: Recipe) -> Optimizer:
    """Weight decay on matrices only, not on norms and biases."""
    blocks = [p for p in model.transformer.h.parameters() if p.ndim >= 2]
    in_blocks = set(map(id, blocks))
    tables = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in in_blocks]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    return Optimizer(
        muon=torch.optim.Muon(
            [{"params": blocks, "peak": recipe.matrix_learning_rate}],
            lr=recipe.matrix_learning_rate,
            weight_decay=decay,
            adjust_lr_fn="match_rms_adamw",  # steps as large as AdamW's, whatever a matrix's shape
        ),
        adam=torch.optim.AdamW(
            [
                {"params": tables, "peak": rate, "weight_decay": decay},
                {"params": vectors, "peak": rate, "weight_decay": 0.0},
            ],
            lr=rate,
            betas=(0.9, 0.98),
            fused=True,
        ),
    )
