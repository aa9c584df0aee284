"""Groups: relations that share arguments, and one nonsense pattern for all of their answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

from ovectors.encoding import EncodedPrompts, encode
from ovectors.errors import UserError
from ovectors.experiments.shared.kinds import KINDS, kind_of
from ovectors.prompts import Prompt, repeated_pattern
from ovectors.relations import (
    MORE_RELATIONS,
    SAME_NAME,
    Item,
    Relation,
    capitalise,
    load_relation,
)
from ovectors.splits import is_development

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

CANDIDATES = (*KINDS, *MORE_RELATIONS)
VISITOR = "uppercase"
"""Any word that is written small can be written large: this relation joins every such kind."""
LEAST_SHARED = 30
"""What an interval needs: more than the least number of items that a claim counts."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Relations that are tried on the same arguments.

    Attributes:
        kind: what the arguments are.
        relations: those that share them, at least two.
        arguments: the shared ones whose answers start with different tokens, and which no relation
            of the kind has in its development split.
        left_out: relations of the kind that are not tried, each with how many arguments there
            would be with it.
    """

    kind: str
    relations: tuple[str, ...]
    arguments: tuple[str, ...]
    left_out: Mapping[str, int]


def find_groups(
    model: LanguageModel, names: Iterable[str], *, seed: int = 0, least: int = LEAST_SHARED
) -> tuple[Group, ...]:
    """The groups that these relations form with the model's tokenizer (its weights stay out).

    Relations join their kind in the order given, each where at least `least` arguments are left.
    """
    names = tuple(names)
    found = []
    for kind in dict.fromkeys(map(kind_of, names)):
        members = [name for name in names if kind_of(name) == kind]
        if VISITOR in names and VISITOR not in members and _written_small(members):
            members.append(VISITOR)
        group = group_of(model, kind, members, seed=seed, least=least)
        if len(group.relations) > 1:
            found.append(group)
    return tuple(found)


def _written_small(names: Sequence[str]) -> bool:
    items = [item for name in names for item in load_relation(name).items]
    return all(item.argument[0].islower() for item in items)


def group_of(
    model: LanguageModel, kind: str, names: Sequence[str], *, seed: int = 0, least: int = 0
) -> Group:
    """These relations as a group, without those that leave fewer than `least` arguments."""
    encoded = shared_patterns(model, kind, names, seed=seed)
    tokens = {
        name: dict(zip(_arguments(prompts), prompts.answer_ids.tolist(), strict=True))
        for name, prompts in encoded.items()
    }
    chosen: list[str] = []
    kept: list[str] = []
    left_out: dict[str, int] = {}
    for name in names:
        fits = [
            argument
            for argument in (kept if chosen else tokens.get(name, {}))
            if argument in tokens.get(name, {})
            and (kind_of(name) != kind or not is_development(name, argument, seed=seed))
            and tokens[name][argument] not in {tokens[one][argument] for one in chosen}
        ]
        if chosen and len(fits) < least:
            left_out[name] = len(fits)
        else:
            chosen, kept = [*chosen, name], fits
    return Group(kind=kind, relations=tuple(chosen), arguments=tuple(kept), left_out=left_out)


def _arguments(encoded: EncodedPrompts) -> list[str]:
    return [prompt.item.argument for prompt in encoded.prompts]


def shared_patterns(
    model: LanguageModel, kind: str, names: Sequence[str], *, seed: int = 0
) -> dict[str, EncodedPrompts]:
    """For each relation the patterns of the arguments that it shares with another of these.

    An argument has one pattern for all relations; only the answer that is looked for differs. A
    relation without any measurable pattern is not in the result.
    """
    pairs = _pairs(kind, names)
    found: dict[str, EncodedPrompts] = {}
    asked: dict[str, list[Prompt]] = {name: [] for name in names}
    for argument in dict.fromkeys(argument for answers in pairs.values() for argument in answers):
        answers = {name: pairs[name][argument] for name in names if argument in pairs[name]}
        if len(answers) > 1:
            pattern = _pattern(kind, argument, answers.values(), seed=seed)
            for name, answer in answers.items():
                item = replace(pattern.item, answer=answer)
                asked[name].append(replace(pattern, answer=f" {answer}", relation=name, item=item))
    for name, prompts in asked.items():
        try:
            found[name] = encode(prompts, model.tokenizer, max_length=model.max_length)
        except UserError:  # nothing of it can be measured with this tokenizer
            continue
    return found


def _pairs(kind: str, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Argument to answer for each relation; a visitor's pairs are made of the others' arguments."""
    pairs = {
        name: {
            item.argument: item.answer
            for item in load_relation(name).items
            if item.group != SAME_NAME
        }
        for name in names
    }
    if VISITOR in pairs and kind != kind_of(VISITOR):
        pairs[VISITOR] = {
            argument: capitalise(argument)
            for name, answers in pairs.items()
            if name != VISITOR
            for argument in answers
        }
    return pairs


def _pattern(kind: str, argument: str, answers: Iterable[str], *, seed: int) -> Prompt:
    """The first drawn pattern whose three nonsense words hold none of the answers."""
    answers = set(answers)
    item = Item(argument=argument, answer=min(answers))
    relation = Relation(name=kind, title=kind, items=(item,))
    drawn = (repeated_pattern(relation, item, seed=seed + 1000 * at) for at in count())
    return next(one for one in drawn if not answers & set(one.text.split()[:3]))
