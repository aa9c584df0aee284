"""The last switch to the answer: found as by hand, put down to its sublayer, counted and told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from made_answers import made, use
from ovectors.experiments.linear_update import judge
from ovectors.experiments.linear_update.judge.switches import ATTENTION, EITHER, FFN, NEITHER
from ovectors.experiments.linear_update.measure import answered, switches
from ovectors.experiments.linear_update.measure.answered import NO_SWITCH
from ovectors.figures import linear_update as draw
from ovectors.prose import linear_update as say
from tiny_models import LAYERS, PARALLEL

FAMILIES = ("gpt2", "gptj", "bloom", "gpt_neox", "llama")
CAPITALS = "world_capitals"


def test_the_last_switch_is_where_the_answer_comes_to_stay() -> None:
    on_top = np.array([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0], [0, 1, 1, 0, 1], [1, 1, 1, 1, 0]])
    assert answered.last_switch(on_top == 1).tolist() == [3, 0, 2, 3, NO_SWITCH]


@pytest.mark.parametrize("case", FAMILIES)
def test_every_place_is_decoded_as_by_hand(case, monkeypatch) -> None:
    one = made(case)
    table = switches.switches(use(one, monkeypatch), CAPITALS)
    state = {"before": one.states["before"], "after": one.states["after"]}
    if case in PARALLEL:
        state["attention alone"] = one.states["before"] + one.states["attention"]
        state["ffn alone"] = one.states["before"] + one.states["ffn"]
    else:
        state["mid"] = one.states["mid"]
    assert set(table["place"]) == set(state)
    assert len(table) == len(state) * LAYERS * len(one.encoded)
    for row in table.itertuples():
        at = state[row.place][row.layer, row.item]
        assert row.rank_answer == one.rank(at, one.encoded.answer_ids[row.item])
        assert row.rank_argument == one.rank(at, one.encoded.argument_ids[row.item])
    assert table["correct"].all()


@pytest.mark.parametrize("case", FAMILIES)
def test_the_switch_is_put_down_to_the_sublayer_that_makes_it(case, monkeypatch) -> None:
    one = made(case)
    items = judge.per_item(switches.switches(use(one, monkeypatch), CAPITALS))
    makers = set()
    for row in items.itertuples():
        answer, s = one.encoded.answer_ids[row.item], row.switch
        top = [one.rank(after, answer) == 1 for after in one.states["after"][:, row.item]]
        assert all(top[s:]) and (s == 0 or not top[s - 1])
        before, attention, ffn = (
            one.states[p][s, row.item] for p in ("before", "attention", "ffn")
        )
        with_attention = one.rank(before + attention, answer) == 1
        with_ffn = one.rank(before + ffn, answer) == 1
        if one.rank(before, answer) == 1:
            expected = NEITHER
        elif case not in PARALLEL:
            expected = ATTENTION if with_attention else FFN
        else:
            names = {(True, True): EITHER, (True, False): ATTENTION, (False, True): FFN}
            expected = names.get((with_attention, with_ffn), NEITHER)
        assert row.made_by == expected
        makers.add(expected)
        argument = one.encoded.argument_ids[row.item]
        assert row.argument_before == (one.rank(before, argument) == 1)
    assert len(makers) > 1  # or the comparison would say little


def test_chosen_layers_come_from_development_items_alone() -> None:
    rows = [(CAPITALS, 2, True), (CAPITALS, 2, True), (CAPITALS, 1, True), (CAPITALS, 0, False)]
    rows += [("uppercase", 1, True), ("uppercase", 0, False), ("uppercase", 0, False)]
    items = pd.DataFrame(rows, columns=["relation", "switch", "development"]).assign(correct=True)
    chosen = judge.chosen_layers(items).set_index("relation")
    assert chosen["layer"].to_dict() == {CAPITALS: 2, "uppercase": 1}
    assert chosen["n"].to_dict() == {CAPITALS: 3, "uppercase": 1}
    assert judge.common_layer(items) == 1  # 2/3 at layer 2, 1/3 + 1 at layer 1
    assert judge.common_layer(items.assign(development=False)) == 0


def makers(*names):
    return pd.DataFrame(
        {
            "relation": CAPITALS,
            "item": range(len(names)),
            "argument": [str(place) for place in range(len(names))],
            "correct": [bool(name) for name in names],
            "switch": range(len(names)),
            "made_by": names,
        }
    )


def test_shares_are_of_items_answered_correctly() -> None:
    shares = judge.maker_shares(makers(FFN, FFN, ATTENTION, "", FFN)).set_index("made_by")
    assert shares["share"].to_dict() == {FFN: 0.75, ATTENTION: 0.25, NEITHER: 0.0}
    assert set(shares["n"]) == {4}
    bars = judge.makers_by_layer(makers(FFN, ATTENTION, "", FFN), layers=5)
    assert bars[bars["items"] > 0][["layer", "made_by"]].values.tolist() == [
        [0, FFN],
        [3, FFN],
        [1, ATTENTION],
    ]
    assert bars["share"].sum() == pytest.approx(1)


def test_the_sentences_follow_the_shares() -> None:
    often = say.maker_sentence(judge.maker_shares(makers(*[FFN] * 30, ATTENTION)))
    assert "0.97" in often and "more than half of the items of world capitals" in often
    seldom = say.maker_sentence(judge.maker_shares(makers(*[ATTENTION] * 30, FFN)))
    assert "0.03" in seldom and "otherwise on world capitals (attention)" in seldom
    assert "interval included" not in seldom
    between = say.maker_sentence(judge.maker_shares(makers(ATTENTION, FFN)))
    assert "More than half" not in between and "more than half" not in between


def test_the_page_says_how_parallel_blocks_are_read() -> None:
    assert "run in parallel" in say.rules(parallel=True)
    assert "run in parallel" not in say.rules(parallel=False)


def test_the_bars_are_the_shares() -> None:
    bars = draw.switch_layers(judge.makers_by_layer(makers(FFN, ATTENTION), layers=3)).axes[0]
    assert [patch.get_height() for patch in bars.patches] == [0.5, 0, 0, 0, 0.5, 0]
