"""Claim cards: what was claimed, what was found, on what, and how sure one can be. HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ovectors.catalogue import catalogue
from ovectors.claims import (
    RULES,
    by_relation,
    first_failure,
    published_verdict,
    why_untested,
)
from ovectors.landing.ranges import Axis, axis_of, drawn_range, number
from ovectors.prose.common import (
    KINDS,
    holds_in_words,
    listed,
    quantisation,
    readable,
    title,
)
from ovectors.prose.front import claim_name

if TYPE_CHECKING:
    from ovectors.claims import Claim, Measured, Published

STATEMENTS = {
    "stages": "On its way through the layers a model first has the argument on top, then, "
    "rather suddenly, the answer, and then keeps it.",
    "linear_update": "The change from argument to answer is made by one FFN, which adds a vector. "
    "Take the vector away, and the argument is back.",
    "content_independence": "The vector does not depend on its content. Taken from one example, "
    "it gives the answer for arguments that it never met.",
    "function_specificity": "The vector says which function to apply, not only that one is due.",
    "retrieval": "Late FFNs serve recall from memory. They are not needed where the answer can be "
    "read off the prompt.",
    "zero_shot": "Added to a prompt without a demonstration, the vector makes the model answer.",
    "beyond": "The mechanism reaches past the three tasks that it was found on.",
}
"""Every claim as a sentence that can be true or false."""

_MARKS = {"supported": "✓", "partly": "◐", "not supported": "✗", "not testable here": "?"}
_MADE_HERE = "trained by this project to run at once, offline, with nothing fetched"
SHOWN, PUBLISHED_SHOWN, FAILURES_SHOWN = 5, 3, 2
"""So many relations, published numbers and criteria that fail stand on a card; the others are
folded under it."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A verdict with where it comes from.

    Attributes:
        page: the chapter's page, relative to the first page.
        provenance: of the run, as in its manifest.
        command: the command line that makes the run again.
    """

    claim: Claim
    page: str
    provenance: Mapping[str, Any]
    command: str


def main_criteria(claim: Claim) -> list[Measured]:
    """One number a relation: the last criterion that is the paper's own comparison; neither held
    nor failed where the relation tests nothing."""
    found = []
    for own in by_relation(claim.measured).values():
        untested = {"holds": None} if why_untested(own) else {}
        found += [one.model_copy(update=untested) for one in own if one.kind == "paper"][-1:]
    return found


def failures(claim: Claim) -> list[Measured]:
    """What fails first on each relation that was tested, where that keeps the claim from being
    supported."""
    if claim.verdict not in ("partly", "not supported"):
        return []
    tested = (own for own in by_relation(claim.measured).values() if not why_untested(own))
    return [one for one in map(first_failure, tested) if one]


def deck(cards: Sequence[Card]) -> str:
    """All cards; "" where there are none."""
    return f'<div class="claim-deck">\n{"".join(map(card_html, cards))}</div>\n' if cards else ""


def verdict_list(cards: Sequence[Card], others: Sequence[Card] = ()) -> str:
    """Every verdict in a line, each leading to its card; "" where there is none.

    `others` are of further models: whether their verdict is the same stands behind. A claim that
    only they were asked follows, and leads to the page of the first of them.
    """
    chips = [
        f'<li><a href="#claim-{card.claim.id}">{claim_name(card.claim.id)}</a>'
        f"{_badge(card.claim.verdict)}{_on_another(card, cards[0])}"
        f"{_elsewhere(card.claim.id, [one for one in others if one != card], card.claim.verdict)}"
        "</li>"
        for card in cards
    ]
    asked = {card.claim.id for card in cards}
    further = {card.claim.id: card.page for card in reversed(others)}
    chips += [
        f'<li><a href="{further[claim]}">{claim_name(claim)}</a>{_elsewhere(claim, others)}</li>'
        for claim in dict.fromkeys(card.claim.id for card in others)
        if claim not in asked
    ]
    return "\n".join(['<ul class="verdict-list">', *chips, "</ul>\n"]) if cards else ""


def _on_another(card: Card, first: Card) -> str:
    """On which model a verdict is, where that is not the one that leads."""
    name = card.claim.model
    return "" if name == first.claim.model else f" <small>(on {html.escape(name)})</small>"


def _elsewhere(claim: str, others: Iterable[Card], verdict: str = "") -> str:
    """The verdicts on a claim on further models, counted: how many are `verdict`, that of the first
    model, where it has one."""
    found: dict[str, list[str]] = {"same": []}
    for one in (card.claim for card in others if card.claim.id == claim):
        said = "same" if one.verdict == verdict else one.verdict
        found.setdefault(said, []).append(html.escape(one.model))
    told = {said: names for said, names in found.items() if names}
    where = "; ".join(f"{said} on {listed(names)}" for said, names in told.items())
    few = ", ".join(f"{len(names)} {said}" for said, names in told.items())
    if verdict and told:
        few = f"{len(found['same'])}/{sum(map(len, told.values()))} same"
    return f' <small title="{where}">{few}</small>' if told else ""


def count_sentence(cards: Sequence[Card]) -> str:
    """How many of the claims have which verdict, on which model, as Markdown."""
    if not cards:
        return "No chapter has been run yet."
    verdicts = [card.claim.verdict for card in cards]
    counts = [f"{verdicts.count(one)} *{one}*" for one in _MARKS if one in verdicts]
    models = " and ".join(f"`{name}`" for name in dict.fromkeys(c.claim.model for c in cards))
    claims = "claim" if len(cards) == 1 else "claims"
    said = f"Of {len(cards)} {claims} judged on {models}: {listed(counts)}."
    return f"{said} The rules were written down before the runs."


def model_sentence(cards: Sequence[Card], others: Sequence[Card] = ()) -> str:
    """What kind of model the verdicts are on, and on which there are `others`, as Markdown."""
    if not cards:
        return "None has been run yet."
    name, count = cards[0].claim.model, cards[0].provenance.get("model", {}).get("parameters")
    size = f"{count / 1e6:,.1f} million parameters" if count else "an unknown number of parameters"
    further = [*dict.fromkeys(card.claim.model for card in others)]
    if _is_miniature(name):
        said = [f"`{name}` is a {{term}}`miniature` of {size}, {_MADE_HERE}. What is found on it"]
        said += ["is a finding about it, and never stands in for the models of the paper."]
    else:
        said = [f"{_named(name)} has {size}."]
    small = [one for one in further if _is_miniature(one) and not _is_miniature(name)]
    kind = "a {term}`miniature`" if len(small) == 1 else "{term}`miniatures <miniature>`"
    large = [one for one in further if one not in small]
    for names, told in ((large, ""), (small, f", {kind} {_MADE_HERE},")):
        shown = [_named(one) for one in names]
        were = "was" if len(names) == 1 else "were"
        said += [f"{listed(shown)}{told} {were} asked the same."] if names else []
    return " ".join(filter(None, said))


def _named(model: str) -> str:
    kind = quantisation(model)
    return f"`{model}` (quantised, {kind})" if kind else f"`{model}`"


def _is_miniature(name: str) -> bool:
    known = catalogue().get(name)
    return known is not None and known.group == "miniature"


def card_html(card: Card) -> str:
    """One card as HTML without an empty line, so that Markdown leaves it alone."""
    claim = card.claim
    rule = RULES.get(claim.id)
    where = f"Claim of the paper, {claim.section}" if claim.section else "A question of this book"
    statement = STATEMENTS.get(claim.id, rule.question if rule else claim.question)
    lines = [
        f'<section class="claim-card" id="claim-{claim.id}" aria-labelledby="name-{claim.id}">',
        f'<p class="claim-origin">{where}</p>',
        f'<h3 id="name-{claim.id}"><a href="{card.page}">{claim_name(claim.id)}</a>'
        f"{_badge(claim.verdict)}</h3>",
        f'<p class="claim-statement">{html.escape(statement)}</p>',
        _published(claim),
        _ours(claim),
        _strongest_control(claim),
        _judged(claim),
        _made(card),
        "</section>",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _badge(verdict: str) -> str:
    kind = verdict.replace(" ", "-")
    mark = f'<span aria-hidden="true">{_MARKS[verdict]}</span>'
    return f'<span class="verdict {kind}">{mark} {verdict}</span>'


def _published(claim: Claim) -> str:
    """Some of the paper's numbers, and what the rule says of them."""
    if not claim.published:
        return '<p class="claim-published"><b>Published:</b> no number.</p>'
    said = [_printed(one) for one in claim.published]
    left = len(said) - PUBLISHED_SHOWN
    shown = "; ".join(said[:PUBLISHED_SHOWN])
    more = f"; {left} more below" if left > 0 else ""
    shown = f'<p class="claim-published"><b>Published:</b> {shown}{more}.</p>'
    if judged := published_verdict(claim):
        why = html.escape(readable(judged.why))
        by_rule = f"<b>The paper's own numbers by this rule:</b> <i>{judged.verdict}</i>: {why}."
        shown += f'\n<p class="claim-published">{by_rule}</p>'
    return shown


def _printed(one: Published) -> str:
    of = "" if one.relation == "all_tasks" else f"{title(one.relation)}, "
    return f"{html.escape(of + one.name)}: <b>{one.value:g}</b> ({html.escape(one.model)})"


def _ours(claim: Claim) -> str:
    """The main criterion, drawn for each relation, those on which it holds first; then what fails
    beside it, the commonest first. Where neither explains the verdict, its sentence does."""
    here = f"On <code>{html.escape(claim.model)}</code>:"
    main, failed = main_criteria(claim), failures(claim)
    shown = []
    if not main or not (failed or claim.verdict == "supported"):
        shown.append(f'<p class="claim-ours"><b>{here}</b> {html.escape(readable(claim.why))}.</p>')
    if main:
        ranked = sorted(main, key=lambda one: (not one.holds, -(one.value or 0)))
        shown.append(_drawn(here, ranked))
    others: dict[str, list[Measured]] = {}
    for one in failed:
        if one not in main:
            others.setdefault(one.name, []).append(one)
    commonest = sorted(others.values(), key=len, reverse=True)[:FAILURES_SHOWN]
    shown += [_drawn("Does not hold:", rows) for rows in commonest]
    return "\n".join(shown)


def _drawn(lead: str, rows: Sequence[Measured]) -> str:
    """One criterion on some relations: its name, and a drawing for each of the first SHOWN."""
    left = len(rows) - SHOWN
    more = f" {left} more relation{'s are' if left > 1 else ' is'} below." if left > 0 else ""
    rows = rows[:SHOWN]
    axis = axis_of(rows)
    ends = "".join(
        f"<span>{number(end, digits=axis.digits)}</span>" for end in (axis.low, axis.high)
    )
    return (
        f'<p class="claim-ours"><b>{lead}</b> {html.escape(readable(rows[0].name))}. Dot and bar: '
        f"value and interval; the dashed line is what it has to exceed, {rows[0].bound:g}."
        f"{more}</p>"
        f'<div class="ranges">{"".join(_row(one, axis) for one in rows)}'
        f'<div class="ends" aria-hidden="true">{ends}</div></div>'
    )


def _strongest_control(claim: Claim) -> str:
    """The control that is beaten by least, where one is not beaten."""
    controls = [one for one in failures(claim) if one.kind == "control"]
    if not controls:
        return ""
    one = min(controls, key=lambda one: one.value)
    named = re.sub(r".*(minus |above that of )", "", one.name)
    named = re.sub(r"^that of ", "the vector of ", named)
    lead = "Does as well" if one.value <= one.bound else "Not clearly beaten"
    difference = f"difference {number(one.value, digits=3)} {_bounds(one)}"
    where = f"{title(one.relation).lower()}, {difference}"
    return f'<p class="claim-ours"><b>{lead}:</b> {html.escape(f"{named} ({where})")}.</p>'


def _row(one: Measured, axis: Axis) -> str:
    value = number(one.value, digits=axis.digits)
    bounds = f" <small>{_bounds(one, digits=axis.digits)}</small>"
    return (
        f'<div class="range-row"><span class="of">{html.escape(title(one.relation))}</span>'
        f"{drawn_range(one, axis)}"
        f'<span class="told"><b>{value}</b>{bounds} <small>n&nbsp;=&nbsp;{one.n}</small></span>'
        "</div>"
    )


def _judged(claim: Claim) -> str:
    """The rule and all that it was applied to, folded."""
    rows = "".join(
        f"<tr><td>{html.escape(title(one.relation))}</td><td>{html.escape(readable(one.name))}</td>"
        f"<td>{html.escape(KINDS[one.kind])}</td><td>{number(one.value, digits=3)}</td>"
        f"<td>{_bounds(one)}</td><td>{one.n}</td>"
        f"<td>{'' if one.bound is None else f'{one.bound:g}'}</td>"
        f"<td>{holds_in_words(one)}</td></tr>"
        for one in claim.measured
    )
    heads = ("relation", "measured", "kind", "value", "interval", "n", "has to exceed", "holds")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    printed = "".join(f"<li>{_printed(one)}, {one.where}</li>" for one in claim.published)
    published = f"<p>All published numbers:</p><ul>{printed}</ul>" if printed else ""
    return (
        f"<details><summary>Why <i>{claim.verdict}</i>: the rule and every number</summary>"
        f"<p><b>Asked:</b> {html.escape(claim.question)}</p>"
        f"<p><b>Rule, written down before the run:</b> {html.escape(claim.rule)}</p>"
        f"<p><b>Outcome:</b> {html.escape(readable(claim.why))}.</p>"
        f'<div class="scrolls" tabindex="0" role="region" aria-label="Every number of this claim">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"{published}</details>"
    )


def _bounds(one: Measured, *, digits: int = 3) -> str:
    if one.low is None or one.high is None:
        return ""
    return f"[{number(one.low, digits=digits)}, {number(one.high, digits=digits)}]"


def _made(card: Card) -> str:
    """Cost, provenance, and the command that makes it again."""
    claim, made = card.claim, card.provenance
    model = made.get("model", {})
    parts: list[str] = []
    if claim.cost:
        memory = f"{claim.cost.peak_memory_bytes / 1e9:.1f} GB"
        parts.append(f"measuring took {_duration(claim.cost.seconds)} and {memory}")
    if made.get("commit"):
        parts.append(
            f"commit {made['commit'][:10]}{' with local changes' if made['dirty'] else ''}"
        )
    parts += [f"{name} {made['versions'][name]}" for name in ("torch",) if made.get("versions")]
    parts += [str(model["dtype"])] if model.get("dtype") else []
    parts += [f"quantised, {kind}"] if (kind := quantisation(claim.model)) else []
    return (
        f'<p class="claim-made">{_sentence(parts)}</p>'
        f'<p class="claim-run">Run it yourself: <code>{html.escape(card.command)}</code></p>'
    )


def _sentence(parts: Iterable[str]) -> str:
    said = "; ".join(html.escape(part) for part in parts)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
