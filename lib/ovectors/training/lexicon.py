"""The words a miniature model can know, and which of them it never meets in a task's own format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from ovectors.relations import Item, load_relation
from ovectors.tables import read_words

HELD_OUT_SHARE = 5  # one item in five
N_INFLECTED = 300  # verbs that also appear in the third person, the gerund and upper case
_NO_SIMPLE_GERUND = ("ie", "ee", "oe", "ye", "c")
_NO_SIMPLE_PLURAL = ("f", "fe", "o", "man", "s", "ss")


def is_held_out(argument: str) -> bool:
    """Whether an item is kept out of its task's own question format during training.

    A fixed fifth, chosen by hash and so the same on every machine and for every size of model.
    Such items still occur in running text and in other formats.
    """
    return _order(argument) % HELD_OUT_SHARE == 0


def _order(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def third_person(verb: str) -> str:
    """`walk` -> `walks`, `watch` -> `watches`, `carry` -> `carries`."""
    return plural(verb)


def plural(noun: str) -> str:
    """Regular English -s form: `cup` -> `cups`, `box` -> `boxes`, `berry` -> `berries`."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def gerund(verb: str, past: str) -> str:
    """The -ing form of a regular verb, doubled as its past is: `stop, stopped` -> `stopping`."""
    return (verb if verb.endswith("y") else past[:-2]) + "ing"


@dataclass(frozen=True)
class Lexicon:
    """Everything the document templates draw from; built once from the relation data."""

    @cached_property
    def capitals(self) -> tuple[Item, ...]:
        """Countries and US states with their capitals, where the two names differ."""
        items = load_relation("world_capitals").items + load_relation("us_state_capitals").items
        return tuple(item for item in items if item.argument != item.answer)

    @cached_property
    def states(self) -> frozenset[str]:
        return frozenset(item.argument for item in load_relation("us_state_capitals").items)

    @cached_property
    def verbs(self) -> tuple[Item, ...]:
        return load_relation("past_tense").items

    @cached_property
    def words(self) -> tuple[Item, ...]:
        """Lower-case words with their capitalised form, colours among them."""
        return load_relation("uppercase").items

    @cached_property
    def colors(self) -> tuple[str, ...]:
        return tuple(item.argument for item in self.words if item.group == "colour")

    @cached_property
    def nonsense(self) -> tuple[str, ...]:
        return read_words("nonsense_words.csv")

    @cached_property
    def objects(self) -> tuple[str, ...]:
        return read_words("household.csv", kind="object")

    @cached_property
    def surfaces(self) -> tuple[str, ...]:
        return read_words("household.csv", kind="surface")

    @cached_property
    def inflected(self) -> tuple[Item, ...]:
        """Regular verbs whose other forms are known too: arguments of several relations."""
        candidates = [
            verb
            for verb in self.verbs
            if verb.group == "regular" and not verb.argument.endswith(_NO_SIMPLE_GERUND)
        ]
        return tuple(sorted(candidates, key=lambda verb: _order(verb.argument))[:N_INFLECTED])

    @cached_property
    def functions(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """One-to-one relations over shared arguments, as (argument, answer) pairs.

        The same word is an argument of many of them, so that its position in the prompt cannot
        prepare one answer in advance.
        """
        nouns = [w for w in self.words if not w.argument.endswith(_NO_SIMPLE_PLURAL)]
        single = [c for c in self.capitals if " " not in c.argument]
        verbs = self.inflected
        return {
            "word_same": tuple((w.argument, w.argument) for w in self.words),
            "word_capital": tuple((w.argument, w.answer) for w in self.words),
            "word_upper": tuple((w.argument, w.argument.upper()) for w in self.words),
            "word_plural": tuple((w.argument, plural(w.argument)) for w in nouns),
            "verb_same": tuple((v.argument, v.argument) for v in self.verbs),
            "verb_past": tuple((v.argument, v.answer) for v in self.verbs),
            "verb_third": tuple((v.argument, third_person(v.argument)) for v in verbs),
            "verb_gerund": tuple((v.argument, gerund(v.argument, v.answer)) for v in verbs),
            "verb_capital": tuple((v.argument, v.argument.capitalize()) for v in verbs),
            "verb_upper": tuple((v.argument, v.argument.upper()) for v in verbs),
            "place_same": tuple((c.argument, c.argument) for c in self.capitals),
            "place_capital": tuple((c.argument, c.answer) for c in self.capitals),
            "place_upper": tuple((c.argument, c.argument.upper()) for c in single),
        }
