"""Whose vectors are tried on whose items: the paper's sets in its domain, and out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ovectors.experiments.shared.sources import Task

if TYPE_CHECKING:
    from ovectors.relations import Relation

IN_DOMAIN = {
    "world_capitals": Task(relation="world_capitals"),
    "past_tense": Task(relation="past_tense", group="regular"),
    "uppercase": Task(relation="uppercase", group="word", vectors_from="colored_objects"),
}
"""What the claim is judged on. Upper-casing takes its vectors from coloured objects, as the paper
does, and is judged on words that are no colours: there are only twenty colours."""
FURTHER = {
    "us_state_capitals": Task(relation="us_state_capitals", vectors_from="world_capitals"),
    "irregular_verbs": Task(
        relation="past_tense",
        group="irregular",
        vectors_from="past_tense",
        vectors_group="regular",
    ),
    "colored_objects": Task(relation="colored_objects"),
}
"""Two of the paper's sets out of domain, with the vectors of another set, and its colours."""
ALL = IN_DOMAIN | FURTHER
SHOWN_AS = {
    "irregular_verbs": ("past_tense", ", irregular verbs"),
    "uppercase": ("uppercase", ", words that are no colours"),
    "colored_objects": ("uppercase", ""),
}
"""The relation that the paper prints a task's numbers for, and what it adds to their names."""


def task_of(relation: Relation | str) -> Task:
    """Which items a relation's vectors come from: chapter 3's where it has the relation."""
    return IN_DOMAIN.get(str(relation), Task(relation=relation))


def other_condition(relation: str) -> str:
    """The condition's name for vectors of another relation."""
    return f"vector of {relation}"
