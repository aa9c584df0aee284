"""What the prose says follows the tables: other numbers, other sentences."""

from types import SimpleNamespace

import pandas as pd
import pytest

from ovectors.claims import Claim, Measured
from ovectors.prose import common
from ovectors.prose import stages as prose
from ovectors.statistics import Interval


def curve(argument, answer):
    rows = []
    for token, means in (("argument", argument), ("answer", answer)):
        for layer, mean in enumerate(means):
            rows.append(
                {"relation": "world_capitals", "token": token, "layer": layer, "mean": mean}
            )
    return pd.DataFrame(rows)


def test_the_crossing_is_where_the_answer_stays_above():
    said = prose.curve_sentences(curve([0.1, 0.8, 0.3, 0.2], [0.2, 0.3, 0.4, 0.9]))
    assert "highest after layer 1 (0.80)" in said
    assert "above it from layer 2 on" in said  # layer 0 is above too, but layer 1 is not
    assert "first above 0.5 after layer 3 (relative depth 1.00)" in said
    between = curve([0.1, 0.8, 0.3, 0.2], [0.2, 0.3, 0.6, 0.9]).assign(layer=[0.5, 1, 1.5, 2] * 2)
    said = prose.curve_sentences(between)
    assert "from layer 2's attention on and first above 0.5 after layer 2's attention" in said


def test_an_answer_that_never_comes_is_not_given_a_layer():
    said = prose.curve_sentences(curve([0.5, 0.6], [0.1, 0.2]))
    assert "from layer" not in said and "relative depth" not in said


def test_an_answer_on_top_only_in_between_has_no_crossing():
    said = prose.curve_sentences(curve([0.1, 0.4], [0.9, 0.2]))
    assert "from layer" not in said and "first above 0.5 after layer 0" in said


@pytest.mark.parametrize(("low", "shown"), [(0.9, "0.97 [0.90, 0.99]"), (float("nan"), "0.97")])
def test_intervals(low, shown):
    assert common.interval(0.97, low, 0.99) == shown


def test_the_summary_follows_its_numbers():
    accuracy = {"past_tense": Interval(value=0.25, low=0.2, high=0.3, n=100)}
    stages = pd.DataFrame(
        [{"relation": "past_tense", "stage": "whole signature", "share": 0.125, "low": 0.1}]
    ).assign(high=0.15, n=80)
    curves = curve([0.1, 0.625], [0.2, 0.9]).assign(relation="past_tense")
    said = prose.stages_summary("some-model", accuracy, curves, stages, accuracy)
    for quoted in ("`some-model`", "0.25 [0.20, 0.30] on past tense", "0.62 for past tense"):
        assert quoted in said
    assert "0.12 [0.10, 0.15] of past tense (n = 80)" in said


def whole(share, low, high):
    row = {"relation": "past_tense", "stage": "whole signature", "n": 80}
    return pd.DataFrame([row | {"share": share, "low": low, "high": high}])


def test_the_signature_is_called_the_rule_or_absent_only_when_its_interval_says_so():
    assert "more than half" in prose.signature_sentence(whole(0.7, 0.6, 0.8))
    assert "all but absent" in prose.signature_sentence(whole(0.02, 0.0, 0.05))
    between = prose.signature_sentence(whole(0.55, 0.45, 0.65))
    assert "more than half" not in between and "absent" not in between


def test_only_common_tokens_are_named_without_a_demonstration():
    found = {"past_tense": Interval(value=0.5, low=0.4, high=0.6, n=90)}
    rows = [(" The", 0.66), ("\n", 0.07), (" St", 0.02)]
    tokens = pd.DataFrame(rows, columns=["top_token", "share"]).assign(relation="past_tense")
    said = prose.zero_shot_sentences(found, found, tokens)
    assert "`The` (66%) and `↵` (7%)." in said and "St" not in said
    rare = prose.zero_shot_sentences(found, found, tokens.assign(share=0.01))
    assert prose.NO_COMMON_TOKEN in rare


def test_a_model_that_answers_nothing_still_has_a_summary():
    none = {"past_tense": Interval(value=0.0, low=0.0, high=0.1, n=40)}
    empty = pd.DataFrame(columns=["relation", "token", "layer", "mean"])
    said = prose.stages_summary("m", none, empty, pd.DataFrame(columns=["stage"]), none)
    assert "0.00 [0.00, 0.10]" in said
    assert prose.curve_sentences(empty) == prose.stage_table(empty) == prose.NOTHING_CORRECT


class Prompts(list):
    """As many prompts, and as many left out."""

    def __init__(self, run: int, lacking: int) -> None:
        super().__init__([None] * run)
        self.excluded = [None] * lacking

    def exclusion_counts(self) -> dict[str, int]:
        return {"too long": len(self.excluded)} if self.excluded else {}


@pytest.mark.parametrize(
    ("run", "lacking", "said"),
    [
        (241, 7, "| 241 | 7 (too long) |"),
        (248, 0, "| 248 | none |"),
        (28, 2, "| 28 (of 30 drawn from 248) | 2 (too long) |"),
    ],
)
def test_a_page_says_how_many_items_it_ran_and_of_how_many(run, lacking, said):
    found = Interval(value=0.5, low=0.4, high=0.6, n=20)  # arguments, of which items share some
    table = common.accuracy_table(
        {"world_capitals": found, "mine": found},
        {"world_capitals": Prompts(run, lacking), "mine": Prompts(30, 0)},
    )
    assert table.splitlines()[2].endswith(said)
    assert table.splitlines()[3] == "| mine | 0.50 [0.40, 0.60] | 30 | none |"


def test_relations_have_their_titles_in_sentences_made_elsewhere():
    said = common.readable("it fails on noun plural, colored objects (minus that of person plural)")
    assert said == "it fails on plurals, coloured objects (minus that of plurals of persons)"
    assert common.readable("answers in capitals") == "answers in capitals"


def claim_with(*, judged: int, aside: int) -> Claim:
    def numbers(count, **judged):
        return [
            Measured(
                relation="uppercase",
                name=f"number {at}",
                value=0.5,
                low=0.4,
                high=0.6,
                n=30,
                **judged,
            )
            for at in range(count)
        ]

    return Claim(
        id="stages",
        chapter="01_stages_of_processing",
        model="mini-2m",
        question="Does it?",
        section="",
        rule="Supported where it does.",
        published=[],
        verdict="supported",
        measured=[*numbers(judged, bound=0.1, holds=True, kind="paper"), *numbers(aside)],
        why="every criterion holds on uppercase",
    )


@pytest.mark.parametrize(
    ("judged", "aside", "open_rows"), [(10, 6, 16), (10, 7, 10), (17, 0, 0), (17, 1, 0)]
)
def test_many_numbers_of_a_verdict_are_folded_and_none_is_lost(judged, aside, open_rows):
    block = common.claim_block(claim_with(judged=judged, aside=aside))
    assert "every criterion holds on upper-casing" in block
    shown, _, folded = block.partition("<details")
    assert shown.count("| Upper-casing |") == open_rows
    assert folded.count("| Upper-casing |") == judged + aside - open_rows
    assert bool(folded) == block.rstrip().endswith("</details>")


@pytest.mark.parametrize(("kind", "named"), [("Q4_K_M", True), ("BF16", False), (None, False)])
def test_a_quantised_model_says_what_that_means(monkeypatch, kind, named):
    spec = SimpleNamespace(gguf=kind and SimpleNamespace(quantisation=kind))
    monkeypatch.setattr(common, "catalogue", lambda: {"a": spec})
    store = SimpleNamespace(
        provenance={"parameters": 268_000_000, "dtype": "float32"},
        model=SimpleNamespace(name="a", n_layers=18, d_model=640),
    )
    said = common.model_sentence(store)
    assert "`a`, 268.0 million" in said and said.endswith(".")
    assert ("quantised (Q4_K_M): rounded to four to eight bits" in said) == named
    assert ("quantised" in said) == named and common.quantised_sentence("b") == ""
