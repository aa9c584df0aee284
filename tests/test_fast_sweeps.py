"""The fast ways through a sweep against whole hooked passes, for every family of models."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovectors.interventions import Ablate, Add, Intervention, Replace
from ovectors.models import LanguageModel
from ovectors.sweeps import SLOW, Outcome, one_token, resume, sweep
from ovectors.sweeps.past import alike
from ovectors.sweeps.points import Settings
from ovectors.sweeps.replay import NotReplayable
from tiny_models import CASES, LAYERS, PROMPTS, VOCABULARY, WIDTH, tiny

N = len(PROMPTS)
START = (9, 8, 7, 250)  # what the prompts of `SHARING` start with alike
SHARING = tuple(START + prompt for prompt in PROMPTS)
GENERATOR = torch.Generator().manual_seed(1)
ONE = torch.randn(WIDTH, generator=GENERATOR, dtype=torch.float64)
OWN = torch.randn(N, WIDTH, generator=GENERATOR, dtype=torch.float64)
WANTED = {"answer": torch.tensor([3, 40, 111, 7]), "argument": torch.tensor([9, 9, 200, 250])}
LAST: list[list[Intervention]] = [
    [Replace(ONE, layers=range(start, LAYERS), positions="last")] for start in range(LAYERS)
] + [
    [Add(OWN, scale=-3.0, layers=[0], positions="last")],
    [Ablate(layers=[1], positions="last", kind="attention")],
    [Ablate(layers=[2], positions="last"), Add(ONE, layers=[0, 2], positions="last", scale=0.5)],
    [
        Replace(OWN, layers=[1], positions="last"),
        Ablate(layers=[1], positions="last", kind="attention"),
    ],
]
ALL: list[list[Intervention]] = [
    [Replace(ONE, layers=range(start, LAYERS), positions="all")] for start in range(LAYERS)
] + [
    [Add(OWN, scale=-3.0, layers=[0], positions="all")],
    [Ablate(layers=[1], positions="all", kind="attention"), Ablate(layers=[1], positions="all")],
    [Replace(OWN, layers=[1], positions=[0, 2, 10, 1])],
    [Ablate(layers=[2], positions="all"), Add(ONE, layers=[1], positions="last")],
]
POINTS = [[], *LAST, *ALL]


@contextmanager
def slow() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SLOW, "1")
        yield


def slow_sweep(model: LanguageModel, prompts: Sequence, points: Sequence, **how) -> Outcome:
    with slow():
        return sweep(model, prompts, points, wanted=WANTED, **how)


# These compute attention scores in float32 in any model: rounding is that of float32 there.
FLOAT32_SCORES = ("gpt2-unscaled", "gptj", "bloom", "gemma2")


def assert_equal(found: Outcome, truth: Outcome, *, case: str = "", size: float = 10.0) -> None:
    """Equal logits, up to a thousand roundings of their size, and equal ranks and top tokens.

    Where scores are in float32, two tokens may be nearer to each other than its rounding.
    """
    rough = case in FLOAT32_SCORES
    tolerance = 1e-300 + 1000 * size * np.finfo(np.float32 if rough else np.float64).eps
    for name in truth.ranks:
        assert np.abs(found.logits[name] - truth.logits[name]).max() < tolerance
        assert rough or (found.ranks[name] == truth.ranks[name]).all()
    assert rough or (found.top == truth.top).all()
    assert found.layers == truth.layers


@pytest.mark.parametrize("prompts", [PROMPTS, SHARING], ids=["apart", "sharing a start"])
@pytest.mark.parametrize("case", CASES)
def test_every_family_gives_the_numbers_of_whole_passes(case, prompts):
    model = tiny(case, dtype=torch.float64)
    truth = slow_sweep(model, prompts, POINTS, layers=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that a family is taken the slow way would be one
        found = sweep(model, prompts, POINTS, wanted=WANTED, layers=None)
    assert_equal(found, truth, case=case)
    changed = (found.logits["answer"] != found.logits["answer"][:1]).any(axis=(1, 2))
    # Each point but the control run did something, unless it lies beyond a window.
    beyond = model.window is not None and prompts is SHARING
    assert changed.sum() >= len(POINTS) - 1 - beyond


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_fast_is_as_near_to_exact_arithmetic_as_slow(case, dtype):
    """Both are compared with float64 on the same rounded weights: neither is the truth.

    The tolerance is what whole passes themselves are wrong by, the worst of all points, doubled:
    two right answers may err to opposite sides.
    """
    model = tiny(case, dtype=dtype)
    exact = tiny(case, dtype=dtype)
    exact = LanguageModel.of(
        exact.model.double(), exact.tokenizer, name=case, architecture=exact.architecture
    )
    truth = slow_sweep(exact, SHARING, POINTS, layers=None).logits
    by_hand = slow_sweep(model, SHARING, POINTS, layers=None).logits
    found = sweep(model, SHARING, POINTS, wanted=WANTED, layers=None).logits
    noise = max(np.abs(by_hand[name] - truth[name]).max() for name in WANTED)
    for name in WANTED:
        assert np.abs(found[name] - truth[name]).max() <= 2 * noise
    assert 0 < noise < 100 * torch.finfo(dtype).eps * np.abs(truth["answer"]).max()


def interventions(prompts: int) -> st.SearchStrategy[Intervention]:
    layers = st.lists(st.integers(-LAYERS, LAYERS - 1), min_size=1, max_size=LAYERS)
    positions = st.sampled_from(["last", "all", [0] * prompts])
    kinds = st.sampled_from(["ffn", "attention"])
    vectors = st.sampled_from([ONE, OWN[:1].expand(prompts, -1), -2 * ONE])
    where = {"layers": layers, "positions": positions, "kind": kinds}
    return st.one_of(
        st.builds(Ablate, **where),
        st.builds(Replace, vectors, **where),
        st.builds(Add, vectors, scale=st.sampled_from([-1.0, 0.5, 8.0]), **where),
    )


@st.composite
def random_sweeps(draw: st.DrawFn) -> tuple[list[list[int]], list[list[Intervention]], int]:
    token = st.integers(0, VOCABULARY - 1)
    start = draw(st.lists(token, max_size=6))
    own = draw(st.lists(st.lists(token, min_size=1, max_size=9), min_size=1, max_size=5))
    point = st.lists(interventions(len(own)), max_size=3)
    points = draw(st.lists(point, min_size=1, max_size=6))
    return [start + ids for ids in own], points, draw(st.sampled_from([1, 60_000, 2**29]))


@pytest.mark.parametrize("case", ["gpt2", "gptj", "bloom", "qwen3"])
@settings(max_examples=15, deadline=None)
@given(random=random_sweeps())
def test_random_sweeps_agree(case, random):
    prompts, points, budget = random
    model = tiny(case, dtype=torch.float64)
    wanted = {"answer": torch.tensor([3] * len(prompts))}
    with slow():
        truth = sweep(model, prompts, points, wanted=wanted, layers=[2, 0])
    found = sweep(model, prompts, points, wanted=wanted, layers=[2, 0], budget_bytes=budget)
    assert_equal(found, truth, case=case, size=100)  # a vector times 8 makes large logits


def test_nothing_survives_a_call():
    """Two sweeps in any order, and one that fails between them, give the same bits."""
    model = tiny("gptj")
    first = sweep(model, SHARING, LAST, wanted=WANTED, layers=None)
    other = sweep(model, PROMPTS, ALL, wanted=WANTED)
    with pytest.raises(ValueError, match="token ids run"):
        sweep(model, PROMPTS, POINTS, wanted={"none": torch.tensor([VOCABULARY] * N)})
    again = sweep(model, PROMPTS, ALL, wanted=WANTED)
    assert_equal(again, other, size=0.0)
    assert_equal(sweep(model, SHARING, LAST, wanted=WANTED, layers=None), first, size=0.0)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.model.modules()
    )


@pytest.mark.parametrize("way", [one_token, resume])
def test_a_way_that_is_left_halfway_leaves_no_hook(way):
    model = tiny("gpt2")
    points = dict(enumerate(LAST if way is one_token else ALL))
    pieces = way.pieces(model, PROMPTS, points, Settings(layers=[2], budget_bytes=2**20))
    next(pieces)
    next(pieces)
    pieces.close()
    assert not any(module._forward_hooks for module in model.model.modules())


def test_an_input_of_an_unknown_name_takes_whole_passes_and_says_so():
    model = tiny("gpt2", dtype=torch.float64)
    truth = slow_sweep(model, PROMPTS, POINTS)
    extra = torch.ones(1)

    def give(module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, kwargs | {"slopes": extra}

    handle = model.layers[1].register_forward_pre_hook(give, with_kwargs=True)
    try:
        with pytest.warns(UserWarning, match="whole passes: the layers of .* are given slopes"):
            assert_equal(sweep(model, PROMPTS, POINTS, wanted=WANTED), truth)
        with pytest.raises(NotReplayable):
            how = Settings(layers=[2], budget_bytes=1)
            list(one_token.pieces(model, PROMPTS, {}, how))
    finally:
        handle.remove()


@pytest.mark.parametrize("case", ["bloom", "gptj", "llama"])
def test_it_works_under_offload_to_main_memory_and_disk(case, tmp_path):
    """accelerate's hooks bring each module's weights for its call, and take them away again."""
    from accelerate import disk_offload

    truth = sweep(tiny(case), SHARING, POINTS, wanted=WANTED, layers=None)
    model = tiny(case)
    disk_offload(model.model, tmp_path, execution_device=torch.device("cpu"))
    assert any(weights.is_meta for weights in model.model.parameters())
    found = sweep(model, SHARING, POINTS, wanted=WANTED, layers=None)
    for name in WANTED:
        assert (found.logits[name] == truth.logits[name]).all()


@contextmanager
def counted(model: LanguageModel) -> Iterator[list[int]]:
    """How many tokens go through each block, pass by pass."""
    seen: list[int] = []
    handles = [
        block.register_forward_pre_hook(
            lambda _m, args, kwargs: seen.append(args[0].shape[:2].numel()), with_kwargs=True
        )
        for block in model.layers
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def test_a_sweep_over_start_layers_costs_a_token_a_layer():
    """The shared start once, each prompt's own tokens once, and then one token for each point and
    layer above the one it starts at: the arithmetic that the sweep needs and nothing else."""
    model = tiny("gpt2")
    own = sum(map(len, PROMPTS))
    with counted(model) as seen:
        sweep(model, SHARING, LAST[:LAYERS], wanted=WANTED, budget_bytes=1)  # prompt by prompt
    above = sum(LAYERS - 1 - start for start in range(LAYERS))
    assert sum(seen) == LAYERS * (len(START) + own) + N * above
    with counted(model) as seen:
        sweep(model, PROMPTS, ALL[:LAYERS], wanted=WANTED, budget_bytes=1)
    assert sum(seen) == own * (LAYERS + above)


def test_prompts_are_grouped_by_what_they_start_with():
    assert alike([(1, 2, 3), (1, 2, 4, 5)]) == [([0, 1], 2)]
    assert alike([(1, 2, 3)]) == [([0], 2)]
    assert alike([(1,), (2, 3)]) == [([0, 1], 0)]
    # one with another demonstration does not keep the others from sharing theirs
    other = [(1, 2, 3, 4, n) for n in range(5)] + [(1, 9, 9, 4, 6)]
    assert alike(other) == [([0, 1, 2, 3, 4], 4), ([5], 4)]


def test_a_prompt_with_another_start_is_answered_too():
    prompts = [*SHARING[:3], (*START[:2], 5, 6, *PROMPTS[3])]
    model = tiny("llama", dtype=torch.float64)
    truth = slow_sweep(model, prompts, LAST, layers=None)
    assert_equal(sweep(model, prompts, LAST, wanted=WANTED, layers=None), truth)
