"""Chapter 3's summaries, sentences and figures: they follow the ranks that they are made from."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ovectors.claims import Published
from ovectors.experiments.content_independence import judge
from ovectors.experiments.content_independence.judge.items import FORMED, SPLIT, UNFORMED, WHOLE
from ovectors.experiments.content_independence.measure.controls import WRONG, ZERO
from ovectors.experiments.shared.effects import effects as effects_of
from ovectors.experiments.shared.layers import Layers
from ovectors.experiments.shared.outcomes import ANSWER, ARGUMENT, OUTCOMES
from ovectors.experiments.shared.replacing import CONTROL, OWN, RANDOM
from ovectors.figures import content_independence as draw
from ovectors.prose import content_independence as say

ITEMS = 24


def rows(condition, number, rank, **more):
    """One vector on all items, the same rank everywhere."""
    row = {"model": "m", "relation": "world_capitals", "condition": condition, "number": number}
    row |= {"vector": f"source {number}", "source_layer": 3, "source_correct": number == 0}
    row |= {"norm": 2.0, "start_layer": 2, "positions": "all", "scale": 1.0, "layer": 3}
    row |= {"rank_answer": rank, "rank_argument": 1.0, "rank_other": 50.0, "top_token": " x"}
    row |= {"argument_tokens": 1, "answer_tokens": 1, "outcome": ANSWER if rank == 1 else ARGUMENT}
    items = pd.DataFrame({"item": range(ITEMS), "argument": [f" a{i}" for i in range(ITEMS)]})
    return items.assign(answer=" Y", group="", **(row | more))


@pytest.fixture
def table():
    """Control run at rank 4; the first source lifts the answer to 1, the second to 2."""
    parts = [rows(CONTROL, 0, 4.0), rows(OWN, 0, 1.0), rows(OWN, 1, 2.0)]
    parts += [rows(RANDOM, number, 8.0) for number in (0, 1)]
    return pd.concat(parts, ignore_index=True)


def steady(table):
    """With both sources alike, where the answer ends: their mean is 0.75 as before."""
    own = (table["condition"] == OWN) & (table["rank_answer"] < 3)
    return table.assign(rank_answer=table["rank_answer"].where(~own, 4 / 3))


def test_effects_are_means_over_sources_and_items(table):
    found = judge.effect_rows({"world_capitals": table}).set_index("measure")
    assert found["value"].to_dict() == pytest.approx(
        {
            "mean reciprocal rank before": 0.25,
            "mean reciprocal rank after": 0.75,
            "change": 0.5,
            "answer on top before": 0,
            "answer on top after": 0.5,
            "no effect": 0,
            "answer's rank before": 4,
            "answer's rank after": 4 / 3,
        }
    )
    assert (found["n"] == ITEMS).all() and (found["vectors"] == 2).all()
    assert (found["correct"] == 1).all()


def test_items_about_the_same_argument_count_as_one(table):
    same = table.assign(argument=[f" a{item % 6}" for item in table["item"]])
    found = effects_of(same)["mean reciprocal rank after"]
    assert found.value == pytest.approx(0.75) and found.n == 6


def test_the_spread_has_a_row_for_each_source(table):
    found = judge.source_spread({"world_capitals": table})
    assert found["mean"].tolist() == pytest.approx([0.75, 0.25])
    assert found["correct"].tolist() == [True, False]
    said = say.spread_sentences(found)
    assert "from +0.25 (source 1) to +0.75 (source 0); 2 of 2 sources raise" in said
    assert "does not answer 1 of the sources" in said


def test_conditions_of_both_tables_stand_beside_each_other(table):
    more = pd.concat([rows(CONTROL, 0, 4.0), rows(ZERO, 0, 10.0), rows(WRONG, 0, 1.0)])
    found = judge.condition_means({"world_capitals": steady(table)}, {"world_capitals": more})
    means = found.set_index("condition")["mean"]
    assert means.to_dict() == pytest.approx(
        {CONTROL: 0.25, OWN: 0.75, RANDOM: 0.125, ZERO: 0.1, WRONG: 1.0}
    )
    leads = found.set_index("condition")["lead"]
    assert leads.drop(OWN).to_dict() == pytest.approx(
        {CONTROL: 0.5, RANDOM: 0.625, ZERO: 0.65, WRONG: -0.25}
    )
    assert np.isnan(leads[OWN])
    said = say.control_sentences(found)
    assert "on average control run 0.25, own vector 0.75" in said
    assert "not clearly above wrong demonstration (minus the wrong demonstration, the " in said
    beaten = found[found["condition"] != WRONG]
    assert "clearly above the control run and every control vector." in say.control_sentences(
        beaten
    )


def test_factors_are_told_apart(table):
    split = table["item"] < 10
    mixed = table.assign(answer_tokens=np.where(split, 2, 1))
    mixed.loc[split & (mixed["condition"] == OWN), "rank_answer"] = 4.0
    found = judge.by_tokens({"world_capitals": mixed}).set_index("level")
    assert found.loc[WHOLE, ["mean", "n"]].tolist() == pytest.approx([0.5, 14])
    assert found.loc[SPLIT, ["mean", "n"]].tolist() == pytest.approx([0, 10])
    whole = judge.by_tokens({"world_capitals": table}).set_index("level")
    assert whole.loc[SPLIT, "n"] == 0
    assert "| none | none |" in say.factor_table(whole.reset_index())


def test_argument_formation_comes_from_the_one_shot_prompt(table):
    one_shot = pd.DataFrame(
        [
            {"argument": f" a{item}", "layer": layer, "rank_argument": first, "rank_answer": last}
            for item in range(ITEMS)
            for layer, first, last in (
                [(0, 1.0, 5.0), (1, 2.0, 1.0)] if item < 9 else [(0, 3.0, 5.0), (1, 3.0, 1.0)]
            )
        ]
    )
    found = judge.by_argument_formation({"world_capitals": table}, {"world_capitals": one_shot})
    assert found.set_index("level")["n"].to_dict() == {
        FORMED: 9,
        UNFORMED: ITEMS - 9,
    }


def test_outcomes_add_up(table):
    found = judge.outcome_shares({"world_capitals": table}).set_index("outcome")["share"]
    assert found.sum() == pytest.approx(1)
    assert found[ANSWER] == found[ARGUMENT] == 0.5
    said = say.outcome_sentences(judge.outcome_shares({"world_capitals": table}))
    assert "50.0% of the runs end on the answer; otherwise: the argument stays 50%." in said


def test_outcomes_of_the_same_argument_count_as_one(table):
    same = table.assign(argument=[f" a{item % 6}" for item in table["item"]])
    found = judge.outcome_shares({"world_capitals": same}).set_index("outcome")
    assert (found["n"] == 6).all() and found.loc[ANSWER, "share"] == 0.5


def test_the_example_is_one_that_the_vector_moved(table):
    table.loc[(table["condition"] == OWN) & (table["item"] < 5), "rank_answer"] = 9.0
    found = judge.example(table)
    assert set(found["item"]) == {5} and set(found["condition"]) == {CONTROL, OWN}
    china = table.assign(argument=table["argument"].replace(" a2", " China"))
    assert set(judge.example(china)["argument"]) == {" China"}


def test_layer_curves_keep_the_control_run_apart(table):
    both = pd.concat([table.assign(layer=2, rank_answer=10.0), table], ignore_index=True)
    found = judge.layer_curves({"world_capitals": both})
    answers = found[found["token"] == "answer"].set_index(["condition", "layer"])["mean"]
    assert answers[OWN, 2] == pytest.approx(0.1) and answers[OWN, 3] == pytest.approx(0.75)
    assert answers[CONTROL, 3] == pytest.approx(0.25)
    own = found[(found["token"] == "answer") & (found["condition"] == OWN)].set_index("layer")
    assert own.loc[3, ["rank", "top", "no_effect"]].tolist() == pytest.approx([4 / 3, 0.5, 0])
    assert own.loc[2, ["rank", "top", "no_effect"]].tolist() == pytest.approx([10, 0, 1])
    assert "after layer 3 (50.0% of the runs)" in say.curve_sentences(found)
    lifted = judge.layer_curves({"world_capitals": steady(both)})
    said = say.curve_sentences(lifted)
    assert "clearly above the control run's from layer 3 to the last" in said
    assert "on top nowhere" in say.curve_sentences(found.assign(top=0.0))
    own_lead = found["lead_low"].notna()
    assert (own_lead == ((found["condition"] == OWN) & (found["token"] == "answer"))).all()
    doubtful = found.assign(lead_low=np.where(own_lead, -0.01, np.nan))  # whatever the means say
    assert "stands not clearly above" in say.curve_sentences(doubtful)


# Sentences


def effects(before, after, **more):
    values = {"mean reciprocal rank before": before, "mean reciprocal rank after": after}
    values |= {"answer's rank before": 1 / before, "answer's rank after": 1 / after}
    values |= {"answer on top after": 0.25, "no effect": 0.5, "change": after - before}
    row = {"task": "world_capitals", "setting": "chosen", "positions": "all", "vectors": 2}
    row |= {"correct": 2, "source_layer": 3, "start_layer": 2, "low": 0.1, "high": 0.9, "n": 30}
    named = [{"measure": measure, "value": value} for measure, value in values.items()]
    return pd.DataFrame([row | more | one for one in named])


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.3, "rank rises"), (-0.3, -0.1, "rank falls"), (-0.1, 0.3, "does not clearly change")],
)
def test_the_effect_is_worded_by_its_interval(low, high, word):
    table = effects(0.2, 0.0041)
    table.loc[table["measure"] == "change", ["low", "high"]] = (low, high)
    said = say.effect_sentences(table)
    assert f"{word}, from 0.20 to 0.0041 (rank 5.0 to 243.9); the answer is then on top" in said


def test_ranks_in_the_table_are_ranks():
    shown = say.effect_table(effects(0.2, 0.5))
    assert "| 3, from 2 on | all | 2 (2) | 30 |" in shown and "5.0 [0.1, 0.9]" in shown


PRINTED = [
    Published(relation="uppercase", name="no effect", value=0.04, model="big", where="section 4"),
    Published(
        relation="past_tense",
        name="answer's rank after, irregular verbs",
        value=3,
        model="big",
        where="section 4",
    ),
    Published(
        relation="uppercase",
        name="no effect, words that are no colours",
        value=0.05,
        model="big",
        where="section 4",
    ),
]


def test_published_numbers_stand_beside_ours_only_on_the_model_they_are_for():
    ours = pd.concat(
        [
            effects(0.2, 0.5, task="colored_objects", setting="paper"),
            effects(0.2, 0.25, task="irregular_verbs"),
            effects(0.2, 0.5, task="uppercase", setting="paper").assign(value=0.9),
        ]
    )
    shown = say.published_table(PRINTED, ours, "big")
    assert "| no effect | 0.04 | 0.50 [0.10, 0.90] | not run |" in shown
    assert "| no effect | 0.05 | 0.90 [0.10, 0.90] | not run |" in shown
    assert "| answer's rank after | 3 | not run | 4.0 [0.1, 0.9] |" in shown
    assert "none for `small`" in say.published_table(PRINTED, ours, "small")


def test_the_authors_line_says_why_there_is_nothing():
    assert say.authors_lines("They are elsewhere.", {}, pd.DataFrame()) == "They are elsewhere."


def test_only_the_vector_of_upper_casing_comes_from_a_like_prompt():
    means = [
        {"task": task, "condition": condition, "mean": mean}
        for task in ("past_tense", "uppercase")
        for condition, mean in ((CONTROL, 0.1), (OWN, 0.2), ("authors' vector", 0.3))
    ]
    tables = dict.fromkeys(("past_tense", "uppercase"), pd.DataFrame({"cosine": [0.9]}))
    *_, past, upper = say.authors_lines("", tables, pd.DataFrame(means)).splitlines()
    assert past == "| Past tense (regular verbs) | 0.900 | 0.10 | 0.20 | 0.30 |"
    assert upper.endswith(", ours from a like prompt | 0.900 | 0.10 | 0.20 | 0.30 |")


# Figures


def drawn(figure):
    figure.canvas.draw()
    texts = {text.get_text() for axis in figure.axes for text in axis.texts}
    plt.close(figure)
    return texts


def test_figures_are_drawn_from_whatever_was_measured(table):
    tables = {"world_capitals": table, "my_relation": table}
    layered = {
        name: pd.concat([one.assign(layer=2), one], ignore_index=True)
        for name, one in tables.items()
    }
    drawn(draw.layer_panels(judge.layer_curves(layered)))
    drawn(draw.source_dots(judge.source_spread(tables)))
    drawn(draw.control_points(judge.condition_means(tables, {})))
    assert "50%" in drawn(draw.outcome_bars(judge.outcome_shares(tables)))
    scaled = {
        name: pd.concat([one, one[one["condition"] == OWN].assign(scale=2.0)])
        for name, one in tables.items()
    }
    drawn(draw.scale_lines(judge.scale_curve(scaled)))


def test_the_map_marks_the_chosen_pair_where_it_was_tried():
    pairs = [(source, start) for source in (0, 2) for start in (0, 2)]
    maps = pd.DataFrame(
        [
            {"source_layer": source, "start_layer": start, "item": item, "rank_before": 4.0}
            | {"rank_answer": 1.0 if (source, start) == (2, 0) else 8.0}
            for source, start in pairs
            for item in range(3)
        ]
    ).assign(on_grid=True)
    cells = judge.map_cells({"r": maps}, {"r": Layers(source=2, start=0)})
    best = cells.loc[cells["difference"].idxmax()]
    assert (best["source_layer"], best["start_layer"], best["difference"]) == (2, 0, 0.75)
    assert cells["chosen"].sum() == 1
    assert "vector of layer 2 from layer 0 on; 25% of the pairs" in say.map_sentences(cells)
    figure = draw.layer_maps(cells)
    (frame,) = figure.axes[0].patches
    assert frame.get_edgecolor()[:3] == (0, 0, 0)
    assert frame.get_xy() == pytest.approx((1 - 0.45, 0 - 0.45))  # source 2 is the second column
    away = judge.map_cells({"r": maps}, {"r": Layers(source=1, start=1)})
    assert len(draw.layer_maps(away).axes[0].patches) == 0
    plt.close("all")


@pytest.mark.parametrize(("start", "place"), [(0, "from layer 0 to 2;"), (2, "at layer 2, the")])
def test_the_chosen_layers_are_told_with_what_chose_them(start, place):
    maps = pd.DataFrame({"source_layer": [0, 2], "start_layer": [0, 2], "item": [0, 1]})
    maps["vector"] = "Peru"
    said = say.layer_sentences({"uppercase": Layers(source=1, start=start)}, {"uppercase": maps})
    assert f"vector from layer 1, put in {place}" in said
    assert "among 2 pairs of layers on 2 development items with the vectors of 1 example." in said


def test_every_outcome_has_a_look_of_its_own():
    looks = [draw.ENDS[name] for name in OUTCOMES]
    assert len(set(looks)) == len(looks)


def test_nothing_measured_gives_a_figure_that_says_so():
    nothing = pd.DataFrame(columns=["task", "condition", "outcome", "scale"])
    makers = (draw.layer_panels, draw.source_dots, draw.control_points, draw.layer_maps)
    for make in (*makers, draw.scale_lines, draw.outcome_bars):
        figure = make(nothing)
        assert figure.texts and not figure.axes
        plt.close(figure)


def test_the_summary_follows_its_numbers(table):
    tables = {"world_capitals": steady(table)}
    means = judge.condition_means(tables, {})
    spread = judge.source_spread(tables)
    shares = judge.outcome_shares(tables)
    factors = judge.by_tokens(tables)
    found = judge.effect_rows(tables)
    said = say.summary("some-model", found, means, spread, shares, factors)
    assert "`some-model`" in said
    # 1 / 0.25 and 1 / 0.75, as the paper states it.
    assert "0.25 to 0.75 for world capitals (rank 4.0 to 1.3: rises)" in said
    assert "above the control run and every control vector for world capitals." in said
    assert "not above all" not in said
    assert "2 of 2 for world capitals" in said and "cannot be compared here" in said
    means.loc[means["condition"] == RANDOM, "lead_low"] = -0.1
    lost = say.summary("some-model", found, means, spread, shares, factors)
    assert "every control vector" not in lost
    assert "The own vector is not above all of its controls for world capitals, where the" in lost
    assert "does as well is the random vector (the own vector minus it: +0.6250" in lost


def scattered(condition, mean, rng):
    """One vector whose reciprocal ranks have just this mean, and lie up to 0.03 beside it."""
    off = rng.uniform(-0.015, 0.015, size=ITEMS)
    return rows(condition, 0, 2.0, rank_answer=1 / (mean + off - off.mean()))


def test_what_the_means_do_not_tell_apart_is_not_above():
    """The vector is 0.0004 and 0.001 above two controls on average, and 0.03 above the model."""
    rng = np.random.default_rng(0)
    means = {OWN: 0.0383, WRONG: 0.0379, RANDOM: 0.0373, CONTROL: 0.0083}
    parts = [scattered(name, means[name], rng) for name in (OWN, RANDOM)]
    parts.append(rows(CONTROL, 0, 1 / means[CONTROL]))
    tables = {"past_tense": pd.concat(parts, ignore_index=True)}
    against = {"past_tense": scattered(WRONG, means[WRONG], rng)}
    found = judge.condition_means(tables, against)
    lowest = found.set_index("condition")["lead_low"]
    assert lowest[CONTROL] > 0 > max(lowest[WRONG], lowest[RANDOM])
    shared = judge.source_spread(tables), judge.outcome_shares(tables), judge.by_tokens(tables)
    said = say.summary("m", judge.effect_rows(tables), found, *shared)
    assert "The own vector is above" not in said
    assert "for past tense (regular verbs), where the strongest that does as well is the wrong" in (
        said
    )
    told = say.control_sentences(found)
    assert "not clearly above wrong demonstration and random vector (minus the wrong" in told
    # The same averages without scatter are told apart: the interval decides, not the average.
    exact = [rows(name, 0, 1 / mean) for name, mean in means.items()]
    sharp = judge.condition_means({"past_tense": pd.concat(exact)}, {})
    assert "every control vector for past" in say.summary(
        "m", judge.effect_rows(tables), sharp, *shared
    )


def test_hollow_dots_are_controls_that_do_as_well(table):
    means = judge.condition_means({"world_capitals": table}, {})
    means.loc[means["condition"] == RANDOM, "lead_low"] = -0.1
    (axis,) = draw.control_points(means).axes
    faces = {line.get_marker(): line.get_markerfacecolor() for line in axis.get_lines()}
    assert faces["D"] == "white" and faces["o"] != "white"
    plt.close("all")
