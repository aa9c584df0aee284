"""Sweeps against the slow way: one point and prompt at a time, full logits, ranks by sorting."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ovectors.errors import UserError
from ovectors.interventions import Ablate, Add, Intervention, Replace, intervene, next_token_logits
from ovectors.models import LanguageModel
from ovectors.sweeps import sweep
from tiny_models import LAYERS, PROMPTS, WIDTH, tiny, tiny_tokenizer

USED = len(tiny_tokenizer())
N = len(PROMPTS)
VECTOR = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
OWN = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
WANTED = {"answer": torch.tensor([3, 40, 111, 7]), "argument": torch.tensor([9, 9, 300, 250])}
POINTS: list[list[Intervention]] = [
    [],
    [Replace(VECTOR, layers=[1, 2], positions="all")],
    [Replace(VECTOR, layers=[1, 2], positions="last")],
    [Add(OWN, scale=-3.0, layers=[0], positions="last")],
    [Ablate(layers=[2], positions="all"), Ablate(layers=[0], positions="all", kind="attention")],
    [
        Add(VECTOR, layers=[1], positions="all", scale=0.5),
        Replace(OWN, layers=[2], positions=[0] * N),
    ],
]


@pytest.fixture(scope="module", params=["gpt2", "gptj"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    """In float64, so that no two logits change places by rounding. GPT-J has parallel blocks."""
    return tiny(request.param, dtype=torch.float64)


def rank_by_sorting(logits: Tensor, token: int) -> int:
    order = logits[:USED].argsort(descending=True).tolist()
    return 1 + order.index(token)


def narrowed(one: Intervention, row: int) -> Intervention:
    """The same intervention for one prompt alone."""
    settings = {"layers": one.layers, "kind": one.kind, "positions": one.positions}
    if not isinstance(one.positions, str):
        settings["positions"] = one.positions[row : row + 1]
    vector = getattr(one, "vector", None)
    if vector is not None:
        settings["vector"] = vector[row : row + 1] if vector.ndim == 2 else vector
    if isinstance(one, Add):
        settings["scale"] = one.scale
    return type(one)(**settings)


def test_final_ranks_and_top_tokens_are_those_of_the_model_itself(model):
    found = sweep(model, PROMPTS, POINTS, wanted=WANTED)
    assert found.layers == (LAYERS - 1,)
    assert found.top.shape == found.ranks["answer"].shape == (len(POINTS), 1, N)
    for number, point in enumerate(POINTS):
        for row, ids in enumerate(PROMPTS):
            lengths = torch.tensor([len(ids)])
            own = [narrowed(one, row) for one in point]
            with torch.no_grad(), intervene(model, own, lengths):
                logits = model.model(torch.tensor([ids])).logits[0, -1]
            assert found.top[number, 0, row] == logits[:USED].argmax()
            for name, tokens in WANTED.items():
                truth = rank_by_sorting(logits, int(tokens[row]))
                assert found.ranks[name][number, 0, row] == truth
                assert found.final(name)[number, row] == truth


def test_it_agrees_with_asking_for_the_logits_of_one_point_after_another(model):
    found = sweep(model, PROMPTS, POINTS, wanted=WANTED)
    changed = 0
    for number, point in enumerate(POINTS):
        logits = next_token_logits(model, PROMPTS, interventions=point)
        truth = [rank_by_sorting(*pair) for pair in zip(logits, WANTED["answer"], strict=True)]
        assert found.final("answer")[number].tolist() == truth
        changed += truth != found.final("answer")[0].tolist()
    assert changed == len(POINTS) - 1  # every point but the control run did something


def test_every_layer_is_decoded_as_it_is_under_the_points(model):
    """A block's output, taken by a hook of the test's own, through the model's norm and head."""
    found = sweep(model, PROMPTS, POINTS[:2], wanted=WANTED, layers=None)
    assert found.layers == tuple(range(LAYERS))
    network, states = model.model, {}
    handles = [
        block.register_forward_hook(lambda _m, _a, out, layer=layer: states.update({layer: out}))
        for layer, block in enumerate(network.transformer.h)
    ]
    for number, point in enumerate(POINTS[:2]):
        for row, ids in enumerate(PROMPTS):
            with torch.no_grad(), intervene(model, point, torch.tensor([len(ids)])):
                network(torch.tensor([ids]))
                for layer in range(LAYERS):
                    out = states[layer][0] if isinstance(states[layer], tuple) else states[layer]
                    logits = network.lm_head(network.transformer.ln_f(out[0, -1]))
                    truth = rank_by_sorting(logits, int(WANTED["argument"][row]))
                    assert found.ranks["argument"][number, layer, row] == truth
                    assert found.top[number, layer, row] == logits[:USED].argmax()
    for handle in handles:
        handle.remove()


def test_chosen_layers_and_small_passes_give_the_same_numbers(model):
    whole = sweep(model, PROMPTS, POINTS, wanted=WANTED, layers=None)
    some = sweep(model, PROMPTS, POINTS, wanted=WANTED, layers=[2, 0], budget_bytes=1)
    assert some.layers == (2, 0)
    assert (some.ranks["answer"] == whole.ranks["answer"][:, [2, 0]]).all()
    assert (some.top == whole.top[:, [2, 0]]).all()


def test_a_sweep_leaves_the_model_as_it_was(model):
    before = next_token_logits(model, PROMPTS)
    sweep(model, PROMPTS, POINTS, wanted=WANTED)
    assert torch.equal(next_token_logits(model, PROMPTS), before)
    assert not any(module._forward_hooks for module in model.model.modules())


def test_nothing_to_rank_and_nothing_to_run():
    model = tiny("gpt2")
    found = sweep(model, PROMPTS, [[]], wanted={})
    assert found.ranks == {} and found.top.shape == (1, 1, N)


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ([Ablate(layers=[LAYERS], positions="all")], "has no layer 3"),
        ([Ablate(layers=[0], positions="first")], "positions are 'last', 'all' or one a prompt"),
        ([Replace(torch.zeros(5), layers=[0], positions="all")], "the vector has shape"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(point, said):
    with pytest.raises(UserError, match=said):
        sweep(tiny("gpt2"), PROMPTS, [point], wanted=WANTED)
