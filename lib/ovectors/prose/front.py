"""The front page's table: the claims of the reference model with their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
            cells = [name, claim.question, f"**{claim.verdict}**", cell(claim.why)]
            rows.append(f"| {' | '.join(cells)} |")
    head = ["| claim | question | verdict | why |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) if rows else ""


def cell(text: str) -> str:
    """Text that ends neither a table's cell nor its line."""
    return " ".join(text.split()).replace("|", "\\|")
