"""Many vectors on the same prompts give what one run for each of them gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ovectors.encoding import encode_relation
from ovectors.experiments.shared.vector_sweeps import Trial, replace_each
from ovectors.interventions import Replace, next_token_logits
from tiny_models import tiny


@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("case", ["gpt2", "gptj", "llama"])
def test_each_vector_ranks_as_in_a_run_of_its_own(case, positions):
    model = tiny(case)
    encoded = encode_relation(model, "uppercase", "repeated_pattern", n_items=5)
    generator = torch.Generator().manual_seed(0)
    vectors = 3 * torch.randn(5, model.d_model, generator=generator)
    trials = [
        Trial(layers=range(model.n_layers), vectors=vectors[:3]),
        Trial(layers=(model.n_layers - 1,), vectors=vectors[3:]),
    ]
    wanted = {"answer": encoded.answer_ids, "argument": encoded.argument_ids}
    found = replace_each(model, encoded, trials, positions=positions, wanted=wanted)
    assert [ranks["answer"].shape for ranks in found] == [(1, 5), (3, 5), (2, 5)]
    runs = [[()], *([(trial.layers, one) for one in trial.vectors] for trial in trials)]
    for ranks, alone in zip(found, runs, strict=True):
        for number, run in enumerate(alone):
            point = [Replace(layers=run[0], positions=positions, vector=run[1])] if run else []
            logits = next_token_logits(model, encoded, interventions=point)
            for name, ids in wanted.items():
                above = (logits > logits.gather(1, ids[:, None])).sum(dim=1)
                np.testing.assert_array_equal(ranks[name][number], 1 + above.numpy())
    moved = {tuple(row) for ranks in found for row in ranks["answer"].tolist()}
    assert len(moved) > 1  # or nothing was put in
