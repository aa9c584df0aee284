"""Apply, or which function? Shared arguments, the intervention by hand, verdicts that can fail."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from hand_written import hand_written
from ovectors.claims import LEAST_ITEMS
from ovectors.experiments.content_independence.judge.verdict import MORE_THAN_OTHER
from ovectors.experiments.content_independence.tasks import task_of
from ovectors.experiments.function_specificity import gather, judge, measure
from ovectors.experiments.function_specificity.gather import Specificity
from ovectors.experiments.function_specificity.groups import (
    VISITOR,
    Group,
    shared_patterns,
)
from ovectors.experiments.function_specificity.judge import UNTESTABLE
from ovectors.experiments.shared.layers import Layers
from ovectors.experiments.shared.replacing import CONTROL
from ovectors.experiments.shared.sources import find_sources
from ovectors.figures import function_specificity as figures
from ovectors.prose import function_specificity as prose
from ovectors.statistics import Interval, nothing
from ovectors.store import Store
from ovectors.training.train import train

VERBS = (("past_tense", 5, 7), ("verb_third_person", 6, 4), (VISITOR, 3, 9))
NAMES = [name for name, _, _ in VERBS]


@pytest.fixture(scope="module")
def table(mini):
    return measure.confusion(mini, "verb", VERBS, n_sources=2, n_items=40, max_items=5, seed=1)


def test_ranks_are_those_of_a_pass_in_plain_torch(mini, table):
    """The FFNs from the start layer on are replaced at all positions by one example's output."""
    assert set(table["vector"]) == {CONTROL, *NAMES}
    patterns = shared_patterns(mini, "verb", NAMES, seed=1)["past_tense"]
    texts = {prompt.argument: prompt.text for prompt in patterns.prompts}
    for name, source_layer, start in VERBS:
        drawn = find_sources(mini, task_of(name), n_sources=2, n_items=40, seed=1).prompts.prompts
        # The vector of large letters comes from a question about coloured objects.
        assert (name == VISITOR) == all("What color is" in prompt.text for prompt in drawn)
        asked = {one.item.argument: mini.tokenizer.encode(one.text) for one in drawn}
        for source, rows in table[table["vector"] == name].groupby("source"):
            vector = ffn_output(mini.model, asked[source], source_layer)
            for row in rows.groupby("answer_of").head(2).itertuples():
                ids = mini.tokenizer.encode(texts[row.argument])
                logits = with_vector(mini.model, ids, vector, start)
                elsewhere = table[table["answer_of"] == row.answer_of]["answer"].unique()
                tokens = {
                    answer: mini.tokenizer.encode(texts[row.argument] + answer)[len(ids)]
                    for answer in elsewhere
                }
                found = {one: 1 + int((logits > logits[at]).sum()) for one, at in tokens.items()}
                assert 1 / row.rank == pytest.approx(1 / found.pop(row.answer), abs=1e-4)
                assert row.rank_other in found.values()  # that of another argument


def ffn_output(network, ids, layer):
    with torch.no_grad():
        return hand_written(network, ids)["ffn"][layer, -1]


def with_vector(network, ids, vector, start):
    def put_in(kind, at, state):
        return vector.expand_as(state) if kind == "ffn" and at >= start else state

    with torch.no_grad():
        return hand_written(network, ids, edit=put_in)["logits"][-1]


def test_the_control_run_is_the_model_itself(mini, table):
    control = table[(table["vector"] == CONTROL)]
    patterns = shared_patterns(mini, "verb", NAMES, seed=1)["past_tense"]
    texts = {prompt.argument: prompt.text for prompt in patterns.prompts}
    for row in control.itertuples():
        ids = torch.tensor([mini.tokenizer.encode(texts[row.argument])])
        with torch.no_grad():
            logits = mini.model(ids).logits[0, -1]
        token = mini.tokenizer.encode(texts[row.argument] + row.answer)[ids.shape[1]]
        assert row.rank == 1 + int((logits > logits[token]).sum())


def test_no_source_is_among_the_arguments(table):
    assert not set(table["source"]) & set(table["argument"].str.strip())
    sizes = table.groupby(["vector", "answer_of"]).size()
    assert set(sizes[CONTROL]) == {5} and set(sizes.drop(CONTROL)) == {10}


RELATIONS = ("past_tense", "verb_third_person", "verb_gerund")


def made_up(ranks, *, kind="verb", relations=RELATIONS, items=40, sources=4, alike=False, seed=0):
    """A table in which `ranks(vector, answer_of)` is the typical rank; both axes vary a little.

    `alike`: the answer to another argument ranks as high.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for vector in (CONTROL, *relations):
        for number in range(1 if vector == CONTROL else sources):
            for answer_of in relations:
                for item in range(items):
                    rank = max(1.0, ranks(vector, answer_of) * rng.uniform(0.8, 1.25))
                    other = rank if alike else 20.0
                    rows.append((kind, vector, number, item, answer_of, rank, other))
    columns = ["kind", "vector", "number", "item", "answer_of", "rank", "rank_other"]
    return pd.DataFrame(rows, columns=columns)


def own_only(vector, answer_of):
    return 2 if vector == answer_of else 20


def all_alike(vector, answer_of):
    return 20 if vector == CONTROL else 2


def nothing_moves(vector, answer_of):
    return 20


def judged(ranks, **settings):
    table = made_up(ranks, **settings)
    group = Group(kind="verb", relations=RELATIONS, arguments=("a",) * 40, left_out={})
    found = Specificity(
        accuracies={name: Interval(value=0.9, low=0.8, high=1, n=50) for name in RELATIONS},
        groups=(group,),
        layers={name: Layers(source=8, start=8) for name in RELATIONS},
        table=table,
    )
    return judge.claim(found, model="m")


def test_the_matrix_is_made_of_means():
    table = made_up(own_only)
    matrix = judge.confusion_matrix(table).set_index(["vector", "answer_of"])
    cell = table[(table["vector"] == "past_tense") & (table["answer_of"] == "verb_gerund")]
    found = matrix.loc[("past_tense", "verb_gerund")]
    assert found["mean"] == pytest.approx((1 / cell["rank"]).mean())
    before = table[(table["vector"] == CONTROL) & (table["answer_of"] == "verb_gerund")]
    assert found["rise"] == pytest.approx(found["mean"] - (1 / before["rank"]).mean())
    assert found["top1"] == (cell["rank"] == 1).mean() and found["n"] == 40
    assert len(matrix) == 4 * 3 and matrix.index[0][0] == CONTROL


def test_raising_every_answer_of_a_relation_shows_beside_the_verdict():
    def beside(found):
        (one, *_) = [m for m in found.measured if m.name == MORE_THAN_OTHER]
        return one

    assert beside(judged(own_only)).low > 0.2  # another argument's answer stays where it is
    assert beside(judged(own_only, alike=True)).high < 0.1
    assert beside(judged(own_only)).holds is None
    matrix = judge.confusion_matrix(made_up(own_only, alike=True))
    assert matrix["other"].tolist() == pytest.approx(matrix["mean"].tolist())


def test_the_best_placed_answer_is_counted():
    first = judge.first_answers(made_up(own_only)).set_index(["vector", "answer_of"])
    assert first.loc[("past_tense", "past_tense"), "mean"] == 1
    assert first.loc[("past_tense", "verb_gerund"), "mean"] == 0
    shares = first.loc[CONTROL, "mean"]
    assert shares.sum() == pytest.approx(1) and set(first["relations"]) == {3}


@pytest.mark.parametrize(
    ("ranks", "verdict"),
    [(own_only, "supported"), (all_alike, "partly"), (nothing_moves, "not supported")],
)
def test_the_verdict_follows_the_vectors(ranks, verdict):
    found = judged(ranks)
    assert found.verdict == verdict
    # Only the evidence is judged; what stands beside it is not.
    assert [one.holds for one in found.measured if one.holds is not None][:2] == {
        "supported": [True, True],
        "partly": [True, False],
        "not supported": [False, False],
    }[verdict]


def test_the_strongest_of_the_others_has_to_be_beaten():
    def strays(vector, answer_of):  # the gerund's vectors do better on past tenses than their own
        if answer_of == "past_tense" and vector == "verb_gerund":
            return 1.2
        return own_only(vector, answer_of)

    found = judged(strays)
    lost = [one for one in found.measured if one.relation == "past_tense"][1]
    assert "verb gerund" in lost.name and lost.holds is False and lost.value < 0
    assert found.verdict == "supported"  # on the other two


def test_a_third_of_the_testable_relations_is_needed_and_unanswered_ones_do_not_count():
    names = tuple(f"verb_{number}" for number in range(9))

    def verdict(working, unanswered=()):
        """`working` relations have vectors of their own, all others raise every answer alike."""
        table = made_up(
            lambda vector, answer_of: (
                20
                if vector == CONTROL
                else 2 + 18 * (vector != answer_of)
                if answer_of in names[:working]
                else 2
            ),
            relations=names,
            sources=2,
        )
        answered = Interval(value=0.9, low=0.8, high=1, n=50)
        hardly = Interval(value=0.15, low=0.05, high=0.3, n=50)
        pairs = [("verb", name) for name in names]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(judge, "judged", lambda groups: pairs)
            found = Specificity(
                accuracies={name: hardly if name in unanswered else answered for name in names},
                groups=(),
                layers={},
                table=table,
            )
            return judge.claim(found, model="m")

    assert verdict(3).verdict == "supported"
    two = verdict(2)
    assert two.verdict == "partly" and "on verb 0 and verb 1 only, and 3 are needed" in two.why
    assert verdict(2, unanswered=names[6:]).verdict == "supported"  # two of six
    nobody = verdict(9, unanswered=names[1:])
    assert nobody.verdict == "not testable here"
    assert "1 of 9 relations can be tested, and 2 are needed" in nobody.why
    assert "and verb 8 (accuracy 0.15, not clearly above 0.1)" in nobody.why


def test_too_few_arguments_are_no_test():
    assert judged(own_only, items=LEAST_ITEMS - 1).verdict == "not testable here"


def test_a_visitor_is_not_judged_away_from_home():
    groups = (
        Group(kind="verb", relations=("past_tense", VISITOR), arguments=(), left_out={}),
        Group(kind="word", relations=(VISITOR, "noun_plural"), arguments=(), left_out={}),
    )
    assert judge.judged(groups) == [
        ("verb", "past_tense"),
        ("word", VISITOR),
        ("word", "noun_plural"),
    ]


def test_a_model_that_has_learned_nothing_is_not_testable(tmp_path):
    folder = train("tiny", output=tmp_path / "untrained", steps=1)
    found = gather.measure_all(
        Store(str(folder), device="cpu", folder=tmp_path / "store"), n_items=5
    )
    assert found.groups == () and found.table.empty
    claim = judge.claim(found, model="untrained")
    assert claim.verdict == "not testable here" and claim.why == UNTESTABLE
    assert {one.relation for one in claim.measured} == set(found.accuracies)
    matrix = judge.confusion_matrix(found.table)
    assert prose.group_sentences(found.groups, found.layers, matrix) == prose.NO_GROUP
    assert prose.NO_GROUP in prose.specificity_summary(matrix)
    assert prose.matrix_sentences(matrix) == prose.NO_VECTOR
    assert prose.answer_table(matrix, judge.first_answers(found.table)) == prose.NO_ANSWER
    assert "no two relations" in figures.confusion_panels(matrix).texts[0].get_text()
    plt.close("all")


def test_sentences_follow_the_matrix():
    def said(ranks):
        return prose.matrix_sentences(judge.confusion_matrix(made_up(ranks)))

    assert said(own_only) == "**Verbs.** Every relation's vectors raise their own answer most."
    assert "raise any answer" in said(nothing_moves) and "No relation" in said(nothing_moves)

    def past_only(vector, answer_of):
        return 2 if answer_of == "past_tense" and vector != CONTROL else 20

    assert "All vectors raise the same answer most, that of past tense." in said(past_only)

    def mixed(vector, answer_of):
        wanted = {"past_tense": "past_tense", "verb_gerund": "past_tense"}.get(vector)
        return 2 if answer_of == wanted else 20

    assert said(mixed) == (
        "**Verbs.** The vectors of past tense raise their own answer most, "
        "those of third person no answer and those of gerund that of past tense."
    )


def test_the_table_quotes_the_numbers():
    table = made_up(own_only)
    matrix, first = judge.confusion_matrix(table), judge.first_answers(table)
    shown = prose.answer_table(matrix, first).splitlines()
    assert len(shown) == 2 + 3 and "| Verbs: past tense | 0.05 |" in shown[2]
    assert shown[2].endswith("1.00 [0.91, 1.00] |")
    assert "3 of 3 relations" in prose.specificity_summary(matrix)
    other = matrix.assign(mean=matrix["mean"] + 0.2)
    assert "| 0.25 |" in prose.answer_table(other, first).splitlines()[2]


def test_groups_and_unanswered_relations_are_named():
    group = Group(
        kind="place",
        relations=("world_capitals", "country_currency"),
        arguments=("a",) * 50,
        left_out={"country_demonym": 7},
    )
    layers = {name: Layers(source=3, start=4) for name in group.relations}
    matrix = pd.DataFrame([{"kind": "place", "n": 44}])
    said = prose.group_sentences([group], layers, matrix)
    assert "capital (layer 3, put in from 4 on) and currency" in said
    assert "44 of 50 shared arguments" in said and "demonym there would be 7" in said
    rare = Interval(value=0.05, low=0, high=0.1, n=9)
    told = prose.unanswered_sentence({"noun_plural": rare, "animal_young": nothing()}, least=0.1)
    assert "plural of words (0.05)" in told and "young of animals (no item" in told
    assert "every relation" in prose.unanswered_sentence({}, least=0.1)


def test_the_heat_map_shows_the_cells_and_frames_the_own_ones():
    axis = figures.confusion_panels(judge.confusion_matrix(made_up(own_only))).axes[0]
    texts = [text.get_text() for text in axis.texts]
    assert len(texts) == 12 and len(axis.patches) == 3
    assert texts[0].startswith("0.05")
    assert axis.get_yticklabels()[0].get_text() == "none"
    plt.close("all")
