"""Beyond the three tasks: the numbers of one relation by hand, verdicts that can fail, words."""

import random

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from ovectors.claims import LEAST_ITEMS
from ovectors.experiments.beyond import gather, judge
from ovectors.experiments.beyond.gather import N_SOURCES, Beyond
from ovectors.experiments.beyond.judge import (
    CONTROL_BEATEN,
    CRITERIA,
    DOES_NOT,
    IN_PART,
    NOT_MEASURED,
    OBEYS,
    OTHER_BEATEN,
    RANDOM_BEATEN,
    TOO_FEW,
    UNTESTABLE,
)
from ovectors.experiments.content_independence import tasks
from ovectors.experiments.content_independence.measure.controls import LAST
from ovectors.experiments.content_independence.tasks import IN_DOMAIN
from ovectors.experiments.shared.kinds import kind_of
from ovectors.experiments.shared.layers import Layers
from ovectors.experiments.shared.replacing import CONTROL, OWN, RANDOM
from ovectors.experiments.survey import LEAST_ACCURACY
from ovectors.figures import beyond as figures
from ovectors.prompts import GENERIC
from ovectors.prose import beyond as prose
from ovectors.prose.common import title
from ovectors.relations import MORE_RELATIONS, Item, Relation, load_relation
from ovectors.statistics import Interval, nothing, share
from ovectors.store import Store
from ovectors.training.train import train


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return Store("mini-2m", device="cpu", dtype="float64", folder=folder)


@pytest.fixture(scope="module")
def own():
    """A reader's relation: words in capitals, which no library relation asks for."""
    words = [item.argument for item in load_relation("uppercase").items if item.group == "word"]
    pairs = tuple(Item(argument=word, answer=word.upper()) for word in words[:30])
    return Relation(name="capitals_all_over", title="Loud", items=pairs)


@pytest.fixture(scope="module")
def measured(store, own):
    return gather.measure_all(store, [own], least_accuracy=-1)


# -- one relation, by hand ----------------------------------------------------------------------


def test_accuracy_is_that_of_the_models_own_logits(store, own, measured):
    model = store.model
    right = []
    for item in own.items[1:]:
        shown = own.items[0] if item.answer != own.items[0].answer else own.items[1]
        question = GENERIC.question.format(argument=shown.argument) + f" {shown.answer}\n"
        question += GENERIC.question.format(argument=item.argument)
        ids = model.tokenizer.encode(question)
        wanted = model.tokenizer.encode(f"{question} {item.answer}")[len(ids)]
        with torch.no_grad():
            right.append(int(model.model(torch.tensor([ids])).logits[0, -1].argmax()) == wanted)
    table = measured.stages["capitals_all_over"]
    asked = table[table["argument"] != f" {own.items[0].argument}"]
    found = asked.drop_duplicates("item")["correct"].tolist()
    assert found == right and len(right) == 29
    known = measured.accuracies["capitals_all_over"]
    assert known.n == 30 and known.value == table.drop_duplicates("item")["correct"].mean()


def test_the_overview_is_made_of_the_tables(measured):
    gains = judge.gains(measured)
    (row,) = judge.overview(measured, gains).itertuples()
    table = measured.tables["capitals_all_over"]
    single = {name: part["rank_answer"] for name, part in table.groupby("condition")}
    ranks = {name: 1 / ranks.astype(float) for name, ranks in single.items()}
    assert row.before == pytest.approx(ranks[CONTROL].mean())
    assert row.after == pytest.approx(ranks[OWN].mean())
    assert row.top1 == pytest.approx((ranks[OWN] == 1).mean())
    above = gains.set_index("criterion")["mean"]
    assert above[CONTROL_BEATEN] == pytest.approx(row.after - row.before)
    assert above[RANDOM_BEATEN] == pytest.approx(row.after - ranks[RANDOM].mean())
    other = gains.set_index("criterion").loc[OTHER_BEATEN]
    condition = tasks.other_condition(other["against"])
    assert other["mean"] == pytest.approx(row.after - ranks[condition].mean())
    stages = measured.stages["capitals_all_over"]
    correct = stages[stages["correct"] & (stages["state"] == "after")]
    if len(correct):
        peaks = [(1 / one["rank_argument"]).mean() for _, one in correct.groupby("layer")]
        assert row.argument_peak == pytest.approx(max(peaks))
        made = measured.switches["capitals_all_over"]
        assert row.ffn == (made.loc[made["correct"], "made_by"] == "FFN").mean()


def test_what_was_chosen_was_not_reported(measured):
    table = measured.tables["capitals_all_over"]
    sources = set(table.loc[table["condition"] == OWN, "vector"])
    assert len(sources) == N_SOURCES
    assert not sources & set(table["argument"].str.strip())
    assert set(table["start_layer"]) == {measured.layers["capitals_all_over"].start}


def test_shuffled_pairs_are_not_answered_and_do_not_obey(store, own):
    answers = [item.answer for item in own.items]
    random.Random(4).shuffle(answers)
    pairs = zip(own.items, answers, strict=True)
    items = tuple(Item(argument=a.argument, answer=b) for a, b in pairs if b != a.argument)
    shuffled = Relation(name="shuffled", title="Shuffled", items=items)
    found = gather.measure_all(store, [shuffled])
    assert found.accuracies["shuffled"].value <= LEAST_ACCURACY and not found.tables
    claim = judge.claim(found, model="m")
    assert claim.verdict == "not testable here" and claim.why == UNTESTABLE
    forced = gather.measure_all(store, [shuffled], least_accuracy=-1)
    forced_verdict = judge.claim(forced, model="m").verdict
    assert forced_verdict in ("not supported", "not testable here")


def test_a_model_that_has_learned_nothing_is_not_testable(tmp_path):
    folder = train("tiny", output=tmp_path / "untrained", steps=1)
    store = Store(str(folder), device="cpu", folder=tmp_path / "store")
    found = gather.measure_all(store, n_items=5)
    assert list(found.accuracies) == list(MORE_RELATIONS) and not found.tables
    gains = judge.gains(found)
    overview = judge.overview(found, gains)
    assert judge.claim(found, model="untrained").verdict == "not testable here"
    assert len(overview) == len(MORE_RELATIONS) and gains.empty
    assert prose.mechanism_table(overview, gains) == prose.NOTHING_ANSWERED
    assert prose.NOTHING_ANSWERED in prose.summary("untrained", overview)
    assert len(figures.relation_dots(overview, gains).axes) == 2
    assert found.table.empty and list(found.table.columns)
    plt.close("all")


@pytest.mark.parametrize(
    "pairs",
    [{"zzqx": "zzqxy"}, {"Poland": "1 a", "Peru": "1 b", "Chad": "1 c"}],
    ids=["argument and answer start alike", "all answers start alike"],
)
def test_a_relation_that_is_not_testable_is_listed(store, pairs):
    """It is a row of the chapter, not the chapter's end."""
    items = tuple(Item(argument=one, answer=other) for one, other in pairs.items())
    found = gather.measure_all(store, [Relation(name="same_start", title="", items=items)])
    assert found.stages == {"same_start": None} and found.accuracies["same_start"].n == 0
    overview = judge.overview(found, judge.gains(found))
    assert overview["obeys"].tolist() == [NOT_MEASURED] == ["not testable"]
    assert "not testable with this tokenizer" in prose.verdict_lines(overview)
    assert "same start (not testable)" in prose.answered_sentence(overview)
    assert len(figures.relation_dots(overview, judge.gains(found)).axes) == 2


# -- verdicts -----------------------------------------------------------------------------------


def made_up(own=0.5, control=0.1, rand=0.1, other=0.1, item=0.0, mean=0.1, *, items=30, sources=4):
    """A table in which each condition has this mean reciprocal rank, every number a little off.

    `item` is how much another item's answer rises with the own vectors.
    """
    rng = np.random.default_rng(0)
    means = {CONTROL: control, OWN: own, RANDOM: rand}
    means[tasks.other_condition("world_capitals")] = other
    means[LAST] = mean
    rows = []
    for condition, mean in means.items():
        for number in range(1 if condition in (CONTROL, LAST) else sources):
            for place in range(items):
                noise = rng.uniform(-0.03, 0.03)
                rise = item if condition == OWN else 0
                row = {"condition": condition, "number": number, "item": place, "layer": 11}
                row |= {"rank_answer": 1 / (mean + noise), "rank_other": 1 / (0.1 + rise + noise)}
                rows.append(row | {"argument": f" a{place}"})
    return pd.DataFrame(rows)


OBEYING = {}
NUDGED = {"rand": 0.5}  # a random vector does as well
UNMOVED = {"own": 0.1}
ANY_ANSWER = {"item": 0.4}  # every answer of the relation rises alike


def everything(**tables):
    names = list(tables)
    known = {name: Interval(value=0.9, low=0.8, high=0.97, n=50) for name in names}
    return Beyond(
        stages=dict.fromkeys(names),
        accuracies=known,
        layers={name: Layers(source=8, start=9) for name in names},
        tables={name: made_up(**settings) for name, settings in tables.items()},
        switches={},
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (OBEYING, OBEYS),
        (NUDGED, IN_PART),
        ({"other": 0.5}, IN_PART),
        ({"mean": 0.5}, IN_PART),
        ({"own": 0.115}, DOES_NOT),  # above the control run, by less than is of interest
        (ANY_ANSWER, IN_PART),
        (UNMOVED, DOES_NOT),
        ({"items": LEAST_ITEMS - 1}, TOO_FEW),
    ],
)
def test_a_relation_obeys_where_every_control_is_beaten(settings, said):
    found = everything(noun_plural=settings)
    gains = judge.gains(found)
    assert judge.verdicts(found, gains) == {"noun_plural": said}
    assert gains["criterion"].tolist() == list(CRITERIA)
    assert gains.loc[2, "against"] == "world_capitals"


@pytest.mark.parametrize(
    ("obeying", "nudged", "verdict"),
    [(5, 0, "supported"), (4, 3, "partly"), (0, 5, "partly"), (0, 4, "not supported")],
)
def test_the_claim_asks_for_five_relations(obeying, nudged, verdict):
    settings = [OBEYING] * obeying + [NUDGED] * nudged + [UNMOVED]
    named = dict(zip(MORE_RELATIONS, settings, strict=False))
    claim = judge.claim(everything(**named), model="m")
    assert claim.verdict == verdict
    assert len(claim.measured) == len(CRITERIA) * len(settings)


def test_intervals_widen_with_the_number_of_relations():
    alone = judge.gains(everything(noun_plural=OBEYING)).iloc[0]
    among = judge.gains(everything(**dict.fromkeys(MORE_RELATIONS[:12], OBEYING))).iloc[0]
    assert among["high"] - among["low"] > alone["high"] - alone["low"]


def test_the_control_relation_is_of_another_kind():
    pool = [*MORE_RELATIONS, *IN_DOMAIN]
    for name in MORE_RELATIONS:
        other = gather.other_relation(name, pool)
        assert kind_of(other) != kind_of(name)
    mine = {"mine": Relation(name="mine", title="", items=())}
    assert gather.other_relation("mine", ["mine", "noun_plural"], mine) == "noun_plural"
    assert gather.other_relation("noun_plural", ["noun_plural", "mine", "animal_sound"], mine) == (
        "animal_sound"
    )


# -- words and pictures -------------------------------------------------------------------------


@pytest.fixture
def tables():
    found = everything(
        noun_plural=OBEYING, verb_gerund=NUDGED, animal_young=UNMOVED, person_plural={"items": 5}
    )
    known = share([True] + [False] * 19)
    found = Beyond(
        stages=dict.fromkeys((*found.tables, "element_symbol", "number_digits")),
        accuracies=found.accuracies | {"element_symbol": known, "number_digits": nothing()},
        layers=found.layers,
        tables=found.tables,
        switches={},
    )
    gains = judge.gains(found)
    return judge.overview(found, gains), gains


def test_sentences_follow_the_tables(tables):
    overview, gains = tables
    said = prose.mechanism_sentences(overview)
    assert "holds on 1 of 4 relations: plurals." in said
    assert "The control run is beaten, but not every other control, on gerunds." in said
    assert "Not even the control run is beaten for certain on young animals." in said
    assert "too few items to tell on plurals of persons" in said
    told = prose.answered_sentence(overview)
    assert "answers 4 of 6 relations" in told
    assert "symbols of elements (0.05) and numbers in digits (not testable)" in told
    shown = prose.mechanism_table(overview, gains).splitlines()
    assert len(shown) == 2 + 4 and shown[2].endswith("| yes |") and "| 8, 9 on |" in shown[2]
    assert "yes, +0.40 (world capitals)" in shown[2]
    moved = overview.assign(obeys=DOES_NOT)
    assert "holds on 0 of 6 relations." in prose.mechanism_sentences(moved)
    assert "element" in prose.accuracy_table(overview)


def test_stages_are_summed_up_where_there_are_any():
    rows = [
        ("noun_plural", 0.9, 0.8, 0.7, 0.6),
        ("verb_gerund", 0.9, 0.4, 0.3, 0.9),
        ("animal_young", 0.05, 1.0, 0.9, np.nan),
    ]
    columns = ["relation", "accuracy", "signature", "signature_low", "ffn"]
    overview = pd.DataFrame(rows, columns=columns)
    said = prose.signature_sentence(overview)
    assert said.endswith("on 1 of the 2 relations that are answered: plurals.")
    assert "60% (plurals) and 90% (gerunds)" in prose.ffn_sentence(overview)
    none = overview.assign(signature=np.nan, ffn=np.nan)
    assert "No relation" in prose.signature_sentence(none)
    assert "no switch" in prose.ffn_sentence(none)


def test_every_relation_is_introduced():
    shown = prose.relation_table()
    assert len(shown.splitlines()) == 2 + len(MORE_RELATIONS)
    assert "| Plurals | words | `Q: cat, plural? A: cats` |" in shown


def test_the_figure_has_a_row_for_each_relation_and_fills_what_holds(tables):
    left, right = figures.relation_dots(*tables).axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names[0] == "Plurals" and set(names[-2:]) == {
        title("element_symbol"),
        title("number_digits"),
    }
    marks = [line for line in right.get_lines() if line.get_marker() == "o"]
    filled = {
        names[round(float(line.get_ydata()[0]) + 0.32)]
        for line in marks
        if line.get_markerfacecolor() != "white"
    }
    assert filled == {"Plurals", "Gerunds"}
    assert len(marks) == 4 and "no item can be measured" in [t.get_text() for t in left.texts]
    plt.close("all")
