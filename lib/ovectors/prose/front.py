"""The front page's table: the claims of the reference model with their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ovectors.prose.common import listed, title

if TYPE_CHECKING:
    from ovectors.claims import Claim


def claim_name(claim: str) -> str:
    """`content_independence` as a reader should see it."""
    return claim.replace("_", " ").capitalize()


def claims_table(claims: Mapping[str, Sequence[Claim]]) -> str:
    """Markdown: a row a claim, by the document of the page that measured it; empty for no claim."""
    rows = []
    for document, found in claims.items():
        for claim in found:
            name = f"{{doc}}`{claim_name(claim.id)} </{document}>`"
            cells = [name, claim.question, f"**{claim.verdict}**", cell(reason(claim))]
            rows.append(f"| {' | '.join(cells)} |")
    head = ["| claim | question | verdict | why |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) if rows else ""


def reason(claim: Claim) -> str:
    """Why the verdict is what it is, in short: what fails is named once, with where it does."""
    if claim.verdict != "not supported":
        return claim.why
    first: dict[str, str] = {}
    for one in claim.measured:
        if one.holds is False:
            first.setdefault(one.relation, one.name)
    where: dict[str, list[str]] = {}
    for relation, criterion in first.items():
        where.setdefault(criterion, []).append(title(relation).lower())
    failed = (f"{criterion}, on {listed(names)}" for criterion, names in where.items())
    return "what does not hold: " + "; ".join(failed)


def cell(text: str) -> str:
    """Text that ends neither a table's cell nor its line."""
    return " ".join(text.split()).replace("|", "\\|")
