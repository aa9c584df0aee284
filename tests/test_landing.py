"""The first page says what the results say: other verdicts, other cards and another picture."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest

from ovectors import claims
from ovectors.claims import RULES, Claim, Cost, Measured, Published
from ovectors.landing import cards, journey, ranges
from ovectors.landing.cards import Card
from ovectors.prose import common


def measured(
    relation, name="share", *, value=0.6, low=0.55, high=0.7, holds=True, kind="paper", **more
):
    numbers = {"value": value, "low": low, "high": high, "n": 50, "bound": 0.5} | more
    return Measured(relation=relation, name=name, holds=holds, kind=kind, **numbers)


def card(pieces, *, claim_id="stages", verdict="partly", published=(), model="mini-2m"):
    rule = RULES[claim_id]
    claim = Claim(
        id=rule.id,
        chapter=rule.chapter,
        model=model,
        question=rule.question,
        section=rule.section,
        rule=rule.sentence,
        measured=pieces,
        published=list(published),
        verdict=verdict,
        why="one holds & <two> do not",
        cost=Cost(seconds=90, peak_memory_bytes=1_300_000_000),
    )
    made = {"commit": "0123456789abcdef", "dirty": True, "versions": {"torch": "2.9"}}
    made["model"] = {"name": model, "dtype": "float32", "parameters": 2_242_272}
    command = f"ovectors run --model {model} --chapter 1 --parameter n_items=40"
    return Card(claim=claim, page="runs/m/01.html", provenance=made, command=command)


def parsed(text):
    return ElementTree.fromstring(text.replace("&nbsp;", " "))


def test_every_claim_has_a_statement():
    assert cards.STATEMENTS.keys() == RULES.keys()


def test_a_card_has_all_that_a_reader_needs():
    printed = Published(
        relation="past_tense", name="rank", value=7, model="gpt2", where="section 4"
    )
    pieces = [measured("past_tense", "accuracy", kind="precondition"), measured("past_tense")]
    shown = parsed(cards.card_html(card(pieces, published=[printed])))
    text = " ".join(shown.itertext())
    assert shown.get("id") == "claim-stages" and shown.find(".//a").get("href") == "runs/m/01.html"
    for wanted in (cards.STATEMENTS["stages"], "Past tense, rank", "7", "partly", "n = 50"):
        assert wanted in text
    assert RULES["stages"].sentence in text and "one holds & <two> do not" in text
    assert "90 s and 1.3 GB" in text and "0123456789 with local changes" in text
    assert "ovectors run --model mini-2m --chapter 1 --parameter n_items=40" in text
    (drawn,) = shown.iter("svg")
    assert drawn.get("role") == "img"
    assert drawn.get("aria-label") == (
        "share: 0.60, interval 0.55 to 0.70, 50 items; has to exceed 0.5: holds"
    )
    assert len(shown.findall(".//tbody/tr")) == 2


def test_the_rule_is_folded_and_no_empty_line_ends_the_html():
    said = cards.card_html(card([measured("past_tense")]))
    assert parsed(said).find("details/summary") is not None
    assert "\n\n" not in said.rstrip("\n")


def test_the_papers_last_comparison_is_drawn_and_what_holds_comes_first():
    pieces = [
        measured("past_tense", "accuracy"),
        measured("past_tense", "share", holds=False, value=0.2, low=0.1, high=0.3),
        measured("uppercase", "share"),
        measured("uppercase", "control", kind="control"),
    ]
    shown = parsed(cards.card_html(card(pieces)))
    drawn = [svg.get("aria-label").split(",")[0] for svg in shown.iter("svg")]
    assert drawn == ["share: 0.60", "share: 0.20"]


def test_more_relations_than_fit_are_counted_and_folded():
    pieces = [measured(f"relation_{n}") for n in range(cards.SHOWN + 2)]
    said = cards.card_html(card(pieces))
    assert said.count("<svg") == cards.SHOWN and "2 more relations are below" in said
    assert len(parsed(said).findall(".//tbody/tr")) == cards.SHOWN + 2


def test_what_was_not_measured_is_not_drawn_as_a_number():
    nothing = measured("past_tense", value=None, low=None, high=None, n=0, holds=None)
    shown = parsed(cards.card_html(card([nothing], verdict="not testable here")))
    (drawn,) = shown.iter("svg")
    assert drawn.find("circle") is None and "not measured" in drawn.get("aria-label")
    assert "not measured" in "".join(shown.find(".//tbody").itertext())


def test_what_tests_nothing_is_drawn_without_a_verdict_and_the_reason_stands_before_it():
    pieces = [
        measured("uppercase", "accuracy", kind="precondition", value=0.4, low=0.3, holds=False),
        measured("uppercase"),
        measured("past_tense", n=15, holds=None),
    ]
    said = cards.card_html(card(pieces, verdict="not testable here"))
    before, _ = said.split("<details>")
    assert "one holds &amp; &lt;two&gt; do not." in before
    drawn = {svg.get("class"): svg.get("aria-label") for svg in parsed(said).iter("svg")}
    assert drawn.keys() == {"range aside"} and "has to exceed 0.5: not tested" in said
    assert "<td>too few items</td>" in said


def control(relation, name, value, **more):
    bounds = {"low": value - 0.1, "high": value + 0.1, "bound": 0.0, "kind": "control"}
    return measured(relation, name, value=value, holds=value > 0.1, **(bounds | more))


def test_a_card_that_is_not_supported_shows_what_fails_and_names_the_strongest_control():
    pieces = [
        measured("uppercase"),
        control("uppercase", "own vector minus a random vector of equal norm", 0.05),
        control("uppercase", "own vector minus the mean FFN output", -0.05),
        measured("past_tense"),
        control("past_tense", "own vector minus the mean FFN output", 0.02),
        measured("world_capitals"),
        control("world_capitals", "own vector minus that of past tense", 0.3),
        measured("colored_objects", "accuracy", kind="precondition", holds=False, value=0.4),
        measured("colored_objects"),
        control("colored_objects", "own vector minus nothing", -0.9),
    ]
    said = cards.card_html(card(pieces, claim_id="content_independence"))
    before, _ = said.split("<details>")
    assert before.count('class="range holds"') == 3 and before.count('class="range fails"') == 2
    assert "<b>Does not hold:</b> own vector minus the mean FFN output." in before
    assert (
        "<b>Does as well:</b> the mean FFN output (upper-casing, difference −0.050 [−0.150, "
        "0.050])." in before
    )
    assert "own vector minus nothing" not in before  # colored objects test nothing
    beaten = cards.card_html(card(pieces[3:], claim_id="content_independence"))
    assert "<b>Not clearly beaten:</b> the mean FFN output (past tense" in beaten
    held = cards.card_html(card(pieces, claim_id="content_independence", verdict="supported"))
    assert not re.search("Does not hold|Does as well|one holds", held.split("<details>")[0])


def test_what_only_lacks_a_measurement_says_so_before_the_fold():
    pieces = [measured("uppercase"), measured("uppercase", "x", n=3, kind="control", holds=None)]
    before, _ = cards.card_html(card([pieces[0], pieces[1]])).split("<details>")
    assert "one holds &amp; &lt;two&gt; do not." in before and "Does" not in before


def test_a_card_says_what_the_rule_makes_of_the_papers_numbers():
    pieces = [measured("world_capitals", bound=0.0), control("world_capitals", "minus random", 0.3)]
    printed = [
        one.model_copy(update={"n": None}) for one in claims.published("content_independence")
    ]
    dealt = card(pieces, claim_id="content_independence", published=printed)
    said = cards.card_html(dealt)
    assert (
        "<b>The paper's own numbers by this rule:</b> <i>not testable here</i>: 1 of 1 relations "
        "can be tested, and 2 are needed; the paper&#x27;s own comparison holds on world capitals; "
        "not measured: minus random (world capitals)." in said
    )
    assert "by this rule" not in cards.card_html(card([measured("past_tense")]))


def test_the_verdicts_are_counted_and_lead_to_their_cards():
    dealt = [card([measured("uppercase")]), card([], claim_id="beyond", verdict="supported")]
    assert cards.count_sentence(dealt) == (
        "Of 2 claims judged on `mini-2m`: 1 *supported* and 1 *partly*. "
        "The rules were written down before the runs."
    )
    links = re.findall(r'href="#([^"]+)"', cards.verdict_list(dealt))
    assert links == ["claim-stages", "claim-beyond"]
    assert all(f'id="{link}"' in cards.deck(dealt) for link in links)
    assert cards.deck([]) == cards.verdict_list([]) == ""


def test_verdicts_on_further_models_stand_behind_those_of_the_first():
    dealt = [card([measured("uppercase")]), card([], claim_id="beyond", verdict="supported")]
    others = [
        card([], model="mini-6m"),
        card([], model="mini-20m", verdict="not supported"),
        card([], model="mini-6m", claim_id="beyond", verdict="supported"),
    ]
    first, second = cards.verdict_list(dealt, others).split("</li>")[:2]
    assert ">1/2 same<" in first
    assert 'title="same on mini-6m; not supported on mini-20m"' in first
    assert ">1/1 same<" in second and "mini-20m" not in second
    assert "`mini-6m` and `mini-20m` were asked the same." in cards.model_sentence(dealt, others)
    assert "asked the same" not in cards.model_sentence(dealt)
    assert "small" not in cards.verdict_list(dealt)


def test_a_claim_that_only_further_models_were_asked_has_no_verdict_of_the_first():
    others = [card([], model=f"mini-{n}m", claim_id="beyond") for n in (2, 6)]
    shown = parsed(cards.verdict_list([card([], model="gpt2", verdict="supported")], others))
    stages, beyond = shown.iter("li")
    assert [*beyond.itertext()] == ["Beyond", " ", "2 partly"]
    assert beyond.find("a").get("href") == "runs/m/01.html"
    assert "".join(stages.itertext()).endswith("supported")


def test_beside_a_language_model_the_miniatures_are_introduced():
    first, small = [card([], model="gpt2")], [card([], model="mini-2m"), card([], model="mini-6m")]
    said = cards.model_sentence(first, [*small, card([], model="gpt2-medium")])
    assert "`gpt2-medium` was asked the same. `mini-2m` and `mini-6m`, {term}`miniatures" in said
    assert said.endswith("offline, with nothing fetched, were asked the same.")
    assert "quantised" not in said
    assert "miniature" not in cards.model_sentence(first, [card([], model="gpt2-medium")])


def test_quantised_models_are_named_as_such(monkeypatch):
    kinds = {"gpt2": "Q4_K_M", "gpt2-medium": "Q4_1"}
    for module in (cards, common):
        monkeypatch.setattr(module, "quantisation", lambda name, kind=None: kinds.get(name, ""))
    first, others = card([], model="gpt2"), [card([], model="gpt2-medium"), card([])]
    said = cards.model_sentence([first], others)
    assert said.startswith("`gpt2` (quantised, Q4_K_M) has 2.2 million parameters.")
    assert "`gpt2-medium` (quantised, Q4_1) was asked" in said and "`mini-2m`, a {term}" in said
    assert "not those of the unquantised model" in common.quantised_sentence("gpt2")
    assert "quantised, Q4_K_M" in cards.card_html(first)
    assert "quantised" not in cards.card_html(others[1])


def test_numbers_have_a_minus_sign_and_zero_has_none():
    assert [ranges.number(one) for one in (-0.25, -0.001, 0.0, None)] == [
        "−0.25",
        "0.00",
        "0.00",
        "–",
    ]


@pytest.mark.parametrize(("model", "told"), [("mini-2m", True), ("gpt2", False)])
def test_a_miniature_is_named_as_one(model, told):
    said = cards.model_sentence([card([measured("uppercase")], model=model)])
    assert ("miniature" in said) == told and "2.2 million" in said


def test_an_axis_holds_all_that_is_drawn_on_it():
    shares = ranges.axis_of([measured("a"), measured("b", value=0.1, low=0.0, high=0.2)])
    assert (shares.low, shares.high) == (0, 1)
    changes = [measured("a", value=-0.02, low=-0.03, high=0.01, bound=0)]
    axis = ranges.axis_of(changes)
    assert axis.low < -0.03 and axis.high > 0.01 and axis.digits == 3
    assert ranges.EDGE <= axis.place(-0.03) < axis.place(0) < axis.place(0.01)
    assert axis.place(9) == ranges.WIDTH - ranges.EDGE


def item(ranks, words=None, relation="world_capitals", argument=" Poland", answer=" Warsaw"):
    rows = [
        {"rank_argument": a, "rank_answer": b, "layer": layer, "item": 0, "correct": b == 1}
        for layer, (a, b) in enumerate(ranks)
    ]
    table = pd.DataFrame(rows).assign(
        relation=relation, form="one_shot", argument=argument, answer=answer
    )
    return table.assign(top_token=words or [f" w{layer}" for layer in range(len(ranks))])


def test_the_picture_follows_the_ranks():
    ranks = [(3.0, 9.0), (1.0, 2.0), (2.0, 1.0)]
    drawn = parsed(journey.drawing(item(ranks, [" The", " Poland", " Warsaw"])))
    cells = [rect.get("class") for rect in drawn.iter("rect") if "cell" in rect.get("class")]
    assert cells == ["cell neither", "cell argument", "cell answer"]
    bars = [float(one.get("width")) for one in drawn.iter("rect") if one.get("class") == "argument"]
    assert bars == pytest.approx([78 / 3, 78, 39])
    words = [one.text for one in drawn.iter("text") if one.get("class") == "token"]
    assert words == ["The", "Poland", "Warsaw"]
    assert drawn.get("aria-label") == (
        "Poland is on top after layer 1 alone. Warsaw is on top after layer 2 alone. "
        "The model answers w2.".replace("w2", "Warsaw")
    )


def test_a_deep_model_is_shown_with_its_first_and_last_layer():
    drawn = parsed(journey.drawing(item([(2.0, 3.0)] * 48)))
    layers = [one.text for one in drawn.iter("text") if one.get("x") == "12"]
    assert len(layers) == journey.MOST_ROWS and layers[0] == "0" and layers[-1] == "47"


def test_words_for_a_model_that_never_answers():
    said = journey.in_words(item([(1.0, 5.0), (4.0, 5.0), (1.0, 5.0)], [" a", " b", " Poland"]))
    assert "Poland is on top after 2 of the layers, first 0, last 2." in said
    assert "Warsaw is never on top." in said and said.endswith("The model ends on Poland.")


def test_signs_that_html_knows_are_written_out():
    drawn = journey.drawing(item([(1.0, 2.0)], [" <b>"], argument=" a&b"))
    assert [one.text for one in parsed(drawn).iter("text") if one.get("class") == "token"] == [
        "<b>"
    ]


def test_the_papers_item_is_shown_where_it_was_run():
    table = pd.concat(
        [item([(1.0, 1.0)], argument=" Peru").assign(item=1), item([(1.0, 2.0), (2.0, 1.0)])]
    )
    assert set(journey.shown_item(table)["argument"]) == {" Poland"}
    empty = journey.shown_item(table.iloc[:0])
    assert empty.empty and journey.drawing(empty) == ""


def test_an_item_whose_argument_comes_first_is_shown_before_one_whose_does_not():
    capital = item([(3.0, 2.0), (2.0, 1.0)])
    verb = item([(1.0, 2.0), (2.0, 1.0)], relation="past_tense", argument=" want", answer=" wanted")
    shown = journey.shown_item(pd.concat([capital, verb]))
    assert set(shown["argument"]) == {" want"}
    assert journey.caption(shown, "m").startswith("*Today I want. Yesterday I* asked of `m`")
    unfinished = verb.assign(rank_answer=2.0)
    assert set(journey.shown_item(pd.concat([capital, unfinished]))["argument"]) == {" Poland"}
