"""Early decoding and ranks against the models' own logits, hand-written heads and SciPy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from torch import Tensor

from hand_written import NETS, hand_written
from ovectors.errors import UserError
from ovectors.lens import (
    LogitLens,
    ranks,
    reciprocal_ranks,
    token_texts,
    top_tokens,
)
from ovectors.stream import record
from tiny_models import CASES, PROMPTS, VOCABULARY, tiny, tiny_tokenizer

USED = len(tiny_tokenizer())


class Given:
    """A lens that knows its answers: row i of the states asks for row i of the logits."""

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.vocab_size, self.most = logits, logits.shape[-1], 0

    def __call__(self, states: Tensor) -> Tensor:
        self.most = max(self.most, states.shape[:-1].numel())
        return self.logits[states[..., 0].long()]


def numbered(rows: int) -> Tensor:
    return torch.arange(rows, dtype=torch.float32)[:, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_the_last_state_decodes_to_the_models_own_logits(case: str, dtype: torch.dtype) -> None:
    model = tiny(case, dtype=dtype)
    last = record(model, PROMPTS, parts=["after"])["after"][-1]
    decoded = LogitLens(model)(last)
    assert decoded.dtype == torch.float32
    for row, ids in enumerate(PROMPTS):
        own = model.model(torch.tensor([ids])).logits[0, -1].double()
        exact = hand_written(model.model, ids)["logits"][-1]
        rounded = hand_written(model.model, ids, dtype=dtype)["logits"][-1].double()
        noise = (rounded - exact).abs().max()  # see test_stream
        assert ((decoded[row].double() - own).abs()[:USED] <= 4 * noise).all()
        assert noise < 0.2 * exact.std()


@pytest.mark.parametrize("case", CASES)
def test_every_state_goes_through_the_final_norm_and_the_whole_head(case: str) -> None:
    model = tiny(case)
    states = record(model, PROMPTS, parts=["after", "attention"])
    net = NETS[model.config.model_type](model.model, torch.float64)
    for part in ("after", "attention"):
        decoded = LogitLens(model)(states[part])
        truth = net.head(states[part].double())
        torch.testing.assert_close(
            decoded[..., :USED].double(), truth[..., :USED], rtol=1e-4, atol=1e-4
        )


def test_the_heads_bias_counts() -> None:
    model = tiny("gptj")
    state = torch.zeros(1, model.d_model)  # the norm of nothing is its bias
    favourite = 123
    with torch.no_grad():
        model.model.lm_head.bias[favourite] = 50.0
    assert top_tokens(LogitLens(model), state, k=1).item() == favourite


@pytest.mark.parametrize("case", ["gptj", "gpt_neox"])
def test_rows_that_are_no_token_never_win(case: str) -> None:
    model = tiny(case)
    states = torch.randn(5, model.d_model)
    with torch.no_grad():
        model.model.lm_head.weight[USED:] *= 100
    raw = model.model.lm_head(model.architecture.final_norm_of(model.model)(states))
    assert (raw.argmax(-1) >= USED).all()  # without the mask they would
    lens = LogitLens(model)
    assert (lens(states)[:, USED:] == -torch.inf).all()
    assert lens(states)[:, :USED].isfinite().all()
    assert (top_tokens(lens, states, k=USED) < USED).all()
    best = raw[:, :USED].argmax(-1)
    assert torch.equal(ranks(lens, states, best), torch.ones(5))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12), st.data())
def test_ranks_are_scipys_average_ranks(values: list[int], data) -> None:
    """Few different values, so that ties of every size occur."""
    token = data.draw(st.integers(0, len(values) - 1))
    expected = rankdata([-value for value in values], method="average")[token]
    lens = Given(torch.tensor([values], dtype=torch.float32))
    assert ranks(lens, numbered(1), torch.tensor([token])).item() == expected
    assert reciprocal_ranks(lens, numbered(1), torch.tensor([token])).item() == pytest.approx(
        1 / expected
    )


def test_ranks_broadcast_tokens_over_layers() -> None:
    model = tiny("qwen2")
    states = record(model, PROMPTS, parts=["after"])["after"]
    tokens = torch.tensor([3, 50, 7, 300])
    found = ranks(LogitLens(model), states, tokens)
    assert found.shape == states.shape[:-1]
    logits = LogitLens(model)(states)
    for layer in range(len(states)):
        for prompt, token in enumerate(tokens):
            expected = rankdata(-logits[layer, prompt].numpy())[token]
            assert found[layer, prompt] == expected


def test_top_tokens_are_the_largest_in_order() -> None:
    model = tiny("bloom")
    states = record(model, PROMPTS, parts=["after"])["after"]
    found = top_tokens(LogitLens(model), states, k=5)
    expected = LogitLens(model)(states).argsort(dim=-1, descending=True)[..., :5]
    assert torch.equal(found, expected)


def test_chunks_stay_within_the_budget_and_change_nothing() -> None:
    torch.manual_seed(0)
    logits = torch.randint(0, 40, (23, 50)).float()
    tokens = torch.randint(0, 50, (23,))
    whole, pieces = Given(logits), Given(logits)
    one_row = 4 * 4 * 50
    for budget, most in ((one_row * 5, 5), (one_row * 5 + 1, 5), (1, 1)):
        pieces.most = 0
        assert torch.equal(
            ranks(pieces, numbered(23), tokens, budget_bytes=budget),
            ranks(whole, numbered(23), tokens),
        )
        best = top_tokens(pieces, numbered(23), k=1, budget_bytes=budget)
        assert torch.equal(logits.gather(1, best), logits.amax(dim=1, keepdim=True))
        assert pieces.most == most
    assert whole.most == 23


def test_no_states_give_no_ranks() -> None:
    lens = Given(torch.zeros(1, 9))
    assert ranks(lens, torch.empty(2, 0, 1), torch.empty(0, dtype=torch.long)).shape == (2, 0)
    assert top_tokens(lens, torch.empty(0, 1), k=3).shape == (0, 3)


def test_half_precision_ties_are_ranked_in_the_middle() -> None:
    """Logits are compared as the model gives them: what rounds to one number is a tie."""
    logits = torch.tensor([[10.01, 10.02, 10.03, 2.0]]).bfloat16().float()
    assert ranks(Given(logits), numbered(1), torch.tensor([0])).item() == 2.0


def test_states_are_handed_back_in_the_models_dtype() -> None:
    model = tiny("llama", dtype=torch.bfloat16)
    state = torch.randn(3, model.d_model, dtype=torch.float64)
    assert torch.equal(LogitLens(model)(state), LogitLens(model)(state.bfloat16()))


def test_logits_that_are_no_numbers_are_refused() -> None:
    lens = Given(torch.tensor([[1.0, torch.nan, 0.0]]))
    with pytest.raises(UserError, match=r"not a number.*bfloat16 or float32"):
        ranks(lens, numbered(1), torch.tensor([0]))
    with pytest.raises(UserError, match="not a number"):
        top_tokens(lens, numbered(1), k=1)


@pytest.mark.parametrize("token", [-1, VOCABULARY])
def test_a_token_outside_the_vocabulary_is_refused(token: int) -> None:
    with pytest.raises(ValueError, match="token ids run from 0 to 319"):
        ranks(LogitLens(tiny("gpt2")), torch.zeros(1, 24), torch.tensor([token]))


@pytest.mark.parametrize("k", [0, VOCABULARY + 1])
def test_k_outside_the_vocabulary_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="k is between 1"):
        top_tokens(LogitLens(tiny("gpt2")), torch.zeros(1, 24), k=k)


def test_texts_of_tokens_keep_their_leading_space() -> None:
    model = tiny("gpt2")
    ids = torch.tensor(tiny_tokenizer()(" Paris")["input_ids"])
    assert token_texts(model, ids) == [" P", "a", "r", "i", "s"]
    assert token_texts(model, ids[:4].reshape(2, 2)) == [[" P", "a"], ["r", "i"]]
