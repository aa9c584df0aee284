"""How claims are named and verdicts explained, on the first page and in the comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ovectors.prose.common import listed, readable, title

if TYPE_CHECKING:
    from ovectors.claims import Claim


def claim_name(claim: str) -> str:
    """`content_independence` as a reader should see it."""
    return claim.replace("_", " ").capitalize()


def reason(claim: Claim) -> str:
    """Why the verdict is what it is, in short: what fails is named once, with where it does."""
    if claim.verdict != "not supported":
        return readable(claim.why)
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
