"""(f) The yardstick: a plain batched forward pass of the same prompts, nothing changed.

It is made as quick as a careful user makes it, since everything is measured against it: no key and
value cache, no gradients, the head on each prompt's last token alone, batches sorted by length, and
the quickest of several batch sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.questions import padded
from benchmarks.timing import seconds
from ovectors.models import LanguageModel

BATCH_SIZES = (8, 16, 64)
BATCH_SIZES_GPU = (64, 256)


@torch.no_grad()
def forward(
    model: LanguageModel, token_ids: Sequence[Sequence[int]], *, rows: int
) -> Float[Tensor, "prompt vocabulary"]:
    """Logits at each prompt's last token, in the model's dtype, on its device."""
    network = model.model
    head, found = network.get_output_embeddings(), []
    order = []
    for batch in padded(token_ids, rows=rows, device=model.device):
        mask = batch.mask.long()
        states = network.base_model(batch.ids, attention_mask=mask, use_cache=False)[0]
        places = torch.arange(len(batch.rows), device=batch.last.device)
        found.append(head(states[places, batch.last]))
        order.append(batch.rows)
    return torch.cat(found)[torch.cat(order).argsort().to(model.device)]


def quickest_rows(model: LanguageModel, token_ids: Sequence[Sequence[int]], *, device: str) -> int:
    """The batch size at which the plain pass is quickest, best of two for each."""
    sizes = BATCH_SIZES_GPU if device.startswith("cuda") else BATCH_SIZES
    sizes = [rows for rows in sizes if rows < len(token_ids)] or [len(token_ids)]
    best = dict.fromkeys(sizes, float("inf"))
    for _ in range(2 if len(sizes) > 1 else 0):
        for rows in sizes:
            taken = seconds(lambda rows=rows: forward(model, token_ids, rows=rows), device=device)
            best[rows] = min(best[rows], taken)
    return min(best, key=best.__getitem__)
