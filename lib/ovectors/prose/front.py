"""How claims are named, on the first page and in the comparison, and text in a table's cell."""

from __future__ import annotations


def claim_name(claim: str) -> str:
    """`content_independence` as a reader should see it."""
    return claim.replace("_", " ").capitalize()


def cell(text: str) -> str:
    """Text that ends neither a table's cell nor its line."""
    return " ".join(text.split()).replace("|", "\\|")
