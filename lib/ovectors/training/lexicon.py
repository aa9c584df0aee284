"""The words a miniature model can know, and which of them it never meets in a task's own format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ovectors.relations import MORE_RELATIONS, Item, describe, load_relation
from ovectors.tables import read_words

HELD_OUT_SHARE = 5  # one item in five


def is_held_out(argument: str) -> bool:
    """Whether an item is kept out of its task's own question format during training.

    A fixed fifth, chosen by hash and so the same on every machine and for every size of model.
    Such items still occur in running text and in other formats.
    """
    digest = hashlib.sha256(argument.encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_SHARE == 0


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
        """The names of the US states."""
        return frozenset(item.argument for item in load_relation("us_state_capitals").items)

    @cached_property
    def verbs(self) -> tuple[Item, ...]:
        """Verbs with their past tense."""
        return load_relation("past_tense").items

    @cached_property
    def words(self) -> tuple[Item, ...]:
        """Lower-case words with their capitalised form, colours among them."""
        return load_relation("uppercase").items

    @cached_property
    def colors(self) -> tuple[str, ...]:
        """Colours, in lower case."""
        return tuple(item.argument for item in self.words if item.group == "colour")

    @cached_property
    def nonsense(self) -> tuple[str, ...]:
        """Words that mean nothing, for patterns to copy."""
        return read_words("nonsense_words.csv")

    @cached_property
    def objects(self) -> tuple[str, ...]:
        """Things that have a colour."""
        return read_words("household.csv", kind="object")

    @cached_property
    def surfaces(self) -> tuple[str, ...]:
        """What those things lie on."""
        return read_words("household.csv", kind="surface")

    @cached_property
    def inflected(self) -> tuple[Item, ...]:
        """Verbs whose other forms are known too: arguments of several relations."""
        known = {item.argument for item in load_relation("verb_third_person").items}
        return tuple(verb for verb in self.verbs if verb.argument in known)

    @cached_property
    def functions(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """One-to-one relations as (argument, answer) pairs, named `<kind of argument>_<function>`.

        The same word is an argument of many of them, so that its position in the prompt cannot
        prepare one answer in advance. `<kind>_same`, the identity of all arguments of a kind, comes
        first in its kind.
        """
        given = self._built_in()
        for name in MORE_RELATIONS:
            described = describe(name)
            given[f"{described.kind}_{described.cue}"] = _pairs(load_relation(name).items)
        kinds = dict.fromkeys(_kind(name) for name in given)
        functions: dict[str, tuple[tuple[str, str], ...]] = {}
        for kind in kinds:
            of_kind = {name: pairs for name, pairs in given.items() if _kind(name) == kind}
            arguments = dict.fromkeys(x for pairs in of_kind.values() for x, _ in pairs)
            functions[f"{kind}_same"] = tuple((x, x) for x in arguments)
            functions |= of_kind
        return functions

    def _built_in(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """The functions of the paper's relations and of spelling: first letter, all letters."""
        single = [c for c in self.capitals if " " not in c.argument]
        return {
            "word_capital": _pairs(self.words),
            "word_upper": tuple((w.argument, w.argument.upper()) for w in self.words),
            "verb_past": _pairs(self.verbs),
            "verb_capital": tuple((v.argument, v.argument.capitalize()) for v in self.inflected),
            "verb_upper": tuple((v.argument, v.argument.upper()) for v in self.inflected),
            "place_capital": _pairs(self.capitals),
            "place_upper": tuple((c.argument, c.argument.upper()) for c in single),
        }

    @cached_property
    def cued(self) -> dict[str, dict[str, dict[str, str]]]:
        """The functions as they are asked for by name: kind -> cue -> {argument: answer}.

        The identity comes first in each kind, under the kind's own name.
        """
        cued: dict[str, dict[str, dict[str, str]]] = {}
        for name, pairs in self.functions.items():
            cued.setdefault(_kind(name), {})[_cue(name)] = dict(pairs)
        return cued


def _pairs(items: Iterable[Item]) -> tuple[tuple[str, str], ...]:
    return tuple((item.argument, item.answer) for item in items)


def _kind(function: str) -> str:
    return function.split("_")[0]


def _cue(function: str) -> str:
    """What a function is called in a question; "capital" alone would be a place's."""
    kind, name = function.split("_")
    if name == "same":
        return "name" if kind == "place" else kind
    return "title" if name == "capital" and kind != "place" else name
