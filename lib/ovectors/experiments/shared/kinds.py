"""What the arguments of a relation are: places, verbs, words."""

from __future__ import annotations

from ovectors.relations import describe

KINDS = {"world_capitals": "place", "past_tense": "verb", "uppercase": "word"}
"""What the arguments of the paper's relations are; `relations.describe` knows the others'."""


def kind_of(name: str) -> str:
    """What a relation's arguments are; "" where nobody has said."""
    described = describe(name)
    return described.kind if described else KINDS.get(name, "")
