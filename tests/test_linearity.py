"""Mean vectors, affine maps and cosines against plain sums, on every family."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from made_answers import made, use
from ovectors.experiments.linear_update import judge
from ovectors.experiments.linear_update.judge.linearity import ratio
from ovectors.experiments.linear_update.measure import answered, cosines, linearity
from ovectors.experiments.linear_update.measure.affine import PENALTIES, fit_affine
from ovectors.experiments.linear_update.measure.cosines import OWN_LAYERS, SAME_LAYER
from ovectors.experiments.linear_update.measure.linearity import (
    AFFINE,
    MEAN,
    NOTHING,
    REMAINDER,
    WHOLE,
    Fitted,
)
from ovectors.figures import linear_update as draw
from ovectors.models import load_model
from ovectors.prose import linear_update as say
from tiny_models import LAYERS, tiny

FAMILIES = ("gpt2", "gptj", "bloom", "llama")
CAPITALS, VERBS = "world_capitals", "past_tense"


def halves(monkeypatch: pytest.MonkeyPatch, one) -> tuple[list[int], list[int]]:
    """Every second argument is a development item: enough of each to fit and to measure."""
    arguments = [prompt.item.argument for prompt in one.encoded.prompts]
    chosen = set(arguments[::2])
    monkeypatch.setattr(answered, "is_development", lambda _, argument, seed: argument in chosen)
    places = range(len(arguments))
    return [i for i in places if i % 2 == 0], [i for i in places if i % 2]


def ridge_by_hand(x, y, penalty):
    """Weights and constant as one least-squares problem, the penalty as further rows."""
    x, y = np.asarray(x), np.asarray(y)
    n, width = x.shape
    unit = np.square(x - x.mean(0)).sum() / n
    rows = np.hstack([x, np.ones((n, 1))])
    penalised = np.hstack([np.sqrt(penalty * unit) * np.eye(width), np.zeros((width, 1))])
    target = np.vstack([y, np.zeros((width, y.shape[1]))])
    return np.linalg.lstsq(np.vstack([rows, penalised]), target, rcond=None)[0]


def test_the_affine_map_is_ridge_regression_with_the_penalty_that_leave_one_out_prefers() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 4, generator=generator, dtype=torch.float64) + 3
    y = x @ torch.randn(4, 5, generator=generator, dtype=torch.float64)
    y = y + 0.5 * torch.randn(9, 5, generator=generator, dtype=torch.float64) - 2
    errors = {}
    unit = float((x - x.mean(0)).square().sum()) / len(x)
    for penalty in PENALTIES:
        errors[penalty] = 0.0
        for left in range(9):
            kept = [i for i in range(9) if i != left]
            own = float((x[kept] - x[kept].mean(0)).square().sum()) / 8
            found = ridge_by_hand(x[kept], y[kept], penalty * unit / own)
            guess = np.append(x[left].numpy(), 1) @ found
            errors[penalty] += float(np.square(y[left].numpy() - guess).sum())
    fitted = fit_affine(x, y)
    assert fitted.penalty == min(errors, key=errors.get)
    found = ridge_by_hand(x, y, fitted.penalty)
    new = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    expected = np.hstack([new.numpy(), np.ones((3, 1))]) @ found
    np.testing.assert_allclose(fitted(new).numpy(), expected, rtol=1e-6, atol=1e-6)


def test_where_the_state_tells_nothing_the_mean_vector_is_left() -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 30, 6, generator=generator)
    fitted = fit_affine(*noise)
    if fitted.penalty == torch.inf:
        torch.testing.assert_close(fitted(noise[0]), noise[1].mean(0).expand(30, 6))
    assert fitted.penalty >= 1
    flat = fit_affine(torch.ones(4, 3), torch.arange(12.0).reshape(4, 3))
    assert flat.penalty == torch.inf
    torch.testing.assert_close(flat(torch.zeros(1, 3)), torch.tensor([[4.5, 5.5, 6.5]]))
    with pytest.raises(ValueError, match="two items"):
        fit_affine(torch.ones(1, 3), torch.ones(1, 3))


@pytest.mark.parametrize("case", FAMILIES)
def test_what_is_put_in_place_of_the_ffn_is_decoded_as_by_hand(case, monkeypatch) -> None:
    one = made(case)
    model = use(one, monkeypatch)
    development, report = halves(monkeypatch, one)
    table = linearity.linearity(model, [CAPITALS])
    assert set(table["item"]) == set(report) and set(table["fitted_on"]) == {len(development)}
    assert len(table) == len(report) * LAYERS * 5  # no other task here
    ffn = one.states["ffn"]
    for layer in range(LAYERS):
        bases = torch.stack([one.without_ffn(layer, item) for item in range(len(one.encoded))])
        mean = ffn[layer, development].mean(dim=0)
        for row in table[table["layer"] == layer].itertuples():
            own, base = ffn[layer, row.item], bases[row.item]
            added = {NOTHING: 0 * own, WHOLE: own, MEAN: mean, REMAINDER: own - mean}
            if row.added == AFFINE:
                if np.isinf(row.penalty):
                    added[AFFINE] = mean
                else:
                    found = ridge_by_hand(bases[development], ffn[layer, development], row.penalty)
                    guess = np.append(base.numpy(), 1) @ found
                    added[AFFINE] = torch.from_numpy(guess)
            state = base + added[row.added]
            assert row.lead == pytest.approx(one.lead(state, row.item), abs=1e-4)
            assert row.rank_answer == one.rank(state, one.encoded.answer_ids[row.item])
            error = (own - added[row.added]).square().sum()
            assert row.squared_error == pytest.approx(float(error), rel=1e-4, abs=1e-4)
            assert row.squared_norm == pytest.approx(float(own.square().sum()), rel=1e-4)
            same = one.logits(state).argmax() == one.logits(base + own).argmax()
            assert row.same_top == bool(same)


def test_the_other_tasks_mean_weighs_each_task_once() -> None:
    def fitted(means, count):
        return Fitted(run=None, fitted_on=count, report=None, means=means, maps=())

    ones = torch.ones(2, 3)
    known = {"a": fitted(ones, 2), "b": fitted(3 * ones, 90), "c": fitted(9 * ones, 5)}
    known["d"] = fitted(None, 0)
    assert torch.equal(linearity.mean_of_others(known, "a"), 6 * ones)
    assert torch.equal(linearity.mean_of_others(known, "d"), 13 / 3 * ones)
    assert linearity.mean_of_others({"a": known["a"], "d": known["d"]}, "a") is None


@pytest.mark.parametrize("centred", [False, True])
def test_cosines_are_means_over_pairs(centred, monkeypatch) -> None:
    one = made("gpt2")
    model = use(one, monkeypatch)
    development, report = halves(monkeypatch, one)
    table = cosines.cosines(model, [CAPITALS])
    ffn = one.states["ffn"].clone()
    if centred:
        ffn -= ffn[:, development].mean(dim=1, keepdim=True)
    table = table[table["centred"] == centred]
    switch = table.drop_duplicates("item").set_index("item")["switch"]
    for at in (OWN_LAYERS, SAME_LAYER):
        rows = table[(table["at"] == at) & (table["layer"].isin([1]) | (at == OWN_LAYERS))]
        assert set(rows["item"]) == set(report)
        layer = (lambda item: switch[item]) if at == OWN_LAYERS else (lambda _: 1)
        for row in rows.itertuples():
            own = ffn[layer(row.item), row.item]
            others = [ffn[layer(item), item] for item in report if item != row.item]
            pairs = [float(F.cosine_similarity(own, other, dim=0)) for other in others]
            assert row.cosine == pytest.approx(np.mean(pairs), abs=1e-6)


def test_cosines_between_relations_and_their_panels() -> None:
    model = load_model("mini-2m", device="cpu")
    table = cosines.cosines(model, [CAPITALS, "uppercase"], n_items=40)
    cells = judge.cosine_panels(table, layer=0)
    assert cells.groupby("panel").size().tolist() == [4] * 4
    one = cells[cells["panel"] == "layer 0"].set_index(["relation", "other"])["cosine"]
    there, back = one[CAPITALS, "uppercase"], one["uppercase", CAPITALS]
    assert there == pytest.approx(back, abs=1e-9)  # a mean over the same pairs
    figure = draw.cosine_maps(cells)
    drawn = figure.axes[2].collections[0].get_array().ravel()
    assert sorted(drawn) == pytest.approx(sorted(one))
    said = say.cosine_sentence(cells, 0)
    last = cells[cells["panel"] == "layer 0, centred"]
    within = last[last["relation"] == last["other"]].set_index("relation")["cosine"]
    assert f"{within[CAPITALS]:.2f} on world capitals" in said


def made_up(*, mean=0.25, affine=1.0):
    """Two items, two layers: squared errors and leads that are easy to add up."""
    rows = []
    things = {NOTHING: (4, 0.0), WHOLE: (0, 3.0), MEAN: (mean * 4, 2.0)}
    things |= {REMAINDER: (4, 0.5), AFFINE: (affine * 4, 1.0)}
    for item in range(2):
        for layer in range(2):
            for added, (error, lead) in things.items():
                row = {"relation": CAPITALS, "item": item, "argument": str(item), "layer": layer}
                row |= {
                    "added": added,
                    "squared_norm": 4.0,
                    "squared_error": error,
                    "lead": lead - item - layer,
                }
                row |= {"switch": 1, "rank_answer": 1.0 if lead >= 2 - item else 5.0}
                rows.append(row | {"same_top": added != NOTHING, "fitted_on": 7})
    return pd.DataFrame(rows)


def test_explained_is_one_minus_a_ratio_of_sums() -> None:
    found = judge.explained(made_up()).set_index(["added", "layer"])
    assert found.loc[(MEAN, 0), "mean"] == 0.75 and found.loc[(AFFINE, 1), "mean"] == 0
    errors, totals = np.array([1.0, 0.0, 3.0]), np.array([1.0, 2.0, 5.0])
    one = ratio(errors, totals)
    assert one.value == 0.5 and one.low <= 0.5 <= one.high and one.n == 3
    assert np.isnan(ratio(errors[:1], totals[:1]).low)
    assert ratio(0 * errors, 0 * totals).n == 0


def test_gains_are_differences_from_nothing() -> None:
    found = judge.gains(made_up()).set_index(["added", "layer"])["mean"]
    assert found[WHOLE, 0] == 3 and found[MEAN, 1] == 2 and found[REMAINDER, 0] == 0.5


def test_faithfulness_is_a_share_of_items() -> None:
    found = judge.faithfulness(made_up()).set_index(["added", "layer"])["mean"]
    assert found[NOTHING, 0] == 0 and found[MEAN, 1] == 1


def test_at_the_switch_only_items_that_need_the_ffn_count() -> None:
    found = judge.at_switch(made_up()).set_index("added")
    assert set(found["n"]) == {2}
    assert found.loc[MEAN, "share"] == 1 and found.loc[AFFINE, "share"] == 0.5
    table = made_up()
    table.loc[(table["item"] == 0) & (table["added"] == NOTHING), "rank_answer"] = 1.0
    assert set(judge.at_switch(table)["n"]) == {1}


def test_the_sentence_says_which_part_does_more() -> None:
    def shares(mean, rest):
        rows = [(MEAN, *mean), (REMAINDER, *rest)]
        columns = ["added", "share", "low", "high"]
        return pd.DataFrame(rows, columns=columns).assign(relation=VERBS, n=50)

    more = say.shared_sentence(shares((0.8, 0.7, 0.9), (0.2, 0.1, 0.3)))
    assert "What all items share does so more often than the remainder on past tense" in more
    less = say.shared_sentence(shares((0.2, 0.1, 0.3), (0.8, 0.7, 0.9)))
    assert "The remainder does so more often" in less and "What all items" not in less
    same = say.shared_sentence(shares((0.5, 0.4, 0.6), (0.45, 0.35, 0.55)))
    assert "more often" not in same and "0.50 [0.40, 0.60]" in same


def test_the_cosine_sentence_claims_likeness_only_where_intervals_do() -> None:
    rows = [(CAPITALS, CAPITALS, 0.6, 0.5, 0.7), (VERBS, VERBS, 0.3, 0.1, 0.4)]
    rows += [(CAPITALS, VERBS, 0.2, 0.1, 0.3), (VERBS, CAPITALS, 0.2, 0.1, 0.3)]
    cells = pd.DataFrame(rows, columns=["relation", "other", "cosine", "low", "high"])
    said = say.cosine_sentence(cells.assign(panel="layer 3, centred"), 3)
    assert "Two items of world capitals are thus more alike" in said
    assert "between 0.20 and 0.20" in said


def test_tables_quote_the_chosen_layer() -> None:
    layers = pd.DataFrame([{"relation": CAPITALS, "layer": 1, "n": 4}])
    table = made_up()
    shown = say.linearity_table(
        judge.explained(table), judge.gains(table), layers, judge.fitted_on(table)
    )
    assert "| World capitals | 1 | 7 | 2 | 0.75 [0.75, 0.75] | 0.00 [0.00, 0.00] | none" in shown
    assert "| World capitals | 2 | 1.00" in say.switch_table(judge.at_switch(table))


def test_without_items_to_fit_on_there_are_empty_tables_and_figures_that_say_so() -> None:
    model = tiny("gptj")
    table = linearity.linearity(model, [CAPITALS], n_items=6)
    alike = cosines.cosines(model, [CAPITALS], n_items=6)
    assert table.empty and alike.empty
    cells = judge.cosine_panels(alike, layer=0)
    for empty in (judge.explained(table), judge.gains(table), judge.faithfulness(table)):
        assert "too few items" in draw.curves(empty, ylabel="share").texts[0].get_text()
    assert "too few items" in draw.cosine_maps(cells).texts[0].get_text()
    layers = pd.DataFrame(columns=["relation", "layer", "n"])
    said = say.linearity_table(
        judge.explained(table), judge.gains(table), layers, judge.fitted_on(table)
    )
    assert said == say.switch_table(judge.at_switch(table)) == say.NOTHING_FITTED
    assert say.cosine_sentence(cells, 0) == say.NOTHING_FITTED


def test_the_curves_draw_the_means() -> None:
    axis = draw.curves(judge.explained(made_up()), ylabel="share", ylim=(-1, 1)).axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axis.get_lines()}
    assert lines[MEAN] == [0.75, 0.75] and lines[AFFINE] == [0, 0]
    styles = {line.get_linestyle() for line in axis.get_lines() if line.get_label() in lines}
    assert len(styles) > 1
