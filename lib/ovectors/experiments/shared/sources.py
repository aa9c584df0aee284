"""Sources: the examples that o vectors are taken from, and the items that vectors are tried on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ovectors import lens, stream
from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.errors import UserError
from ovectors.relations import Relation, load_relation
from ovectors.splits import split

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

MOST_CANDIDATES = 10
"""Sources are looked for among at most this many times as many examples as are wanted."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Whose vectors, on whose items.

    Attributes:
        relation: the items that are reported: a relation or its name.
        group: only the items of this group; "" for all.
        vectors_from: the relation that the vectors are taken from; "" for `relation`.
        vectors_group: the group of the examples they are taken from; "" for `group` where the
            relation is the same, else for all.
    """

    relation: Relation | str
    group: str = ""
    vectors_from: Relation | str = ""
    vectors_group: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """As the keyword arguments that every experiment on a task takes."""
        return {
            "relation": self.relation,
            "group": self.group,
            "vectors_from": self.vectors_from,
            "vectors_group": self.vectors_group,
        }

    @property
    def origin(self) -> Task:
        """The task of the vectors on their own relation, which layers are chosen on."""
        own = self.group if not self.vectors_from else ""
        group = self.vectors_group or own
        return Task(relation=self.vectors_from or self.relation, group=group)

    @property
    def out_of_domain(self) -> bool:
        """Whether vectors and items come from different sets."""
        return self.origin != Task(relation=self.relation, group=self.group)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """One-shot prompts whose last token's FFN outputs are o vectors.

    Attributes:
        prompts: the prompts, one a source.
        correct: whether the model answers each of them.
        pool: how many examples there were to choose from.
    """

    prompts: EncodedPrompts
    correct: tuple[bool, ...]
    pool: int

    def __len__(self) -> int:
        return len(self.correct)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of the sources, without leading space."""
        return tuple(prompt.item.argument for prompt in self.prompts.prompts)


def members(relation: Relation | str, group: str, *, seed: int = 0) -> Relation:
    """A relation, or only one group of it. UserError for a group that it does not have."""
    whole = load_relation(relation, seed=seed) if isinstance(relation, str) else relation
    if not group:
        return whole
    items = tuple(item for item in whole.items if item.group == group)
    if not items:
        known = ", ".join(sorted({item.group for item in whole.items if item.group})) or "none"
        raise UserError(f"{whole.name} has no group {group!r}; its groups are: {known}")
    return replace(whole, items=items)


def split_by_argument(
    encoded: EncodedPrompts, *, seed: int = 0
) -> tuple[EncodedPrompts, EncodedPrompts]:
    """`splits.split`, with all passages about one colour on the same side."""
    plain = tuple(
        replace(prompt, item=replace(prompt.item, context="")) for prompt in encoded.prompts
    )
    return split(replace(encoded, prompts=plain), seed=seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What an experiment on a task works with.

    Attributes:
        sources: the examples that the vectors come from.
        development: nonsense patterns with the items that choose settings.
        report: those with the items that are reported, without the arguments of the sources.
        answers: the first tokens of the answers of all measurable items, run or not.
    """

    sources: Sources
    development: EncodedPrompts
    report: EncodedPrompts
    answers: frozenset[int]


def at_most(encoded: EncodedPrompts, count: int, *, seed: int = 0) -> EncodedPrompts:
    """The prompts, or `count` of them drawn by the seed and kept in order; 0 means all."""
    if not count or len(encoded) <= count:
        return encoded
    places = random.Random(f"at most|{count}|{seed}").sample(range(len(encoded)), count)
    return encoded.select(sorted(places))


def find_sources(
    model: LanguageModel,
    task: Task,
    *,
    n_sources: int = 20,
    n_items: int = 0,
    seed: int = 0,
    examples: Sequence[str] = (),
) -> Sources:
    """The examples that the vectors of a task come from.

    Development items that the model answers in one-shot form, in an order drawn by the seed; where
    they are too few, those with the best rank of the answer follow. No two have the same argument:
    of several questions about a colour the best is taken. Where vectors and items come from
    different sets, a development split with too few arguments gives way to the whole set. Named
    `examples` (arguments, such as the paper's " Poland" without its space) are taken as they are.

    Errors: UserError for an example that the relation does not have.
    """
    relation = members(task.origin.relation, task.origin.group, seed=seed)
    asked = None if examples else n_items  # a named example need not be among the items drawn
    whole = encode_relation(model, relation, "one_shot", n_items=asked, seed=seed)
    if examples:
        return _judged(model, whole.select(_places(whole, examples)), n_sources=len(examples))
    pool, _ = split_by_argument(whole, seed=seed)
    if task.out_of_domain and len({one.argument for one in pool.prompts}) < n_sources:
        pool = whole
    order = list(range(len(pool)))
    random.Random(f"sources|{relation.name}|{seed}").shuffle(order)
    candidates = pool.select(order[: MOST_CANDIDATES * n_sources])
    return _judged(model, candidates, n_sources=n_sources)


def _places(encoded: EncodedPrompts, examples: Sequence[str]) -> list[int]:
    """Where the first prompt about each of these arguments is."""
    arguments = [prompt.item.argument for prompt in encoded.prompts]
    for example in examples:
        if example not in arguments:
            name = encoded.prompts[0].relation
            raise UserError(f"{name} has no measurable item {example!r} to take a vector from")
    return [arguments.index(example) for example in examples]


def _judged(model: LanguageModel, candidates: EncodedPrompts, *, n_sources: int) -> Sources:
    """The first that are answered, then the nearest to it, each about another argument."""
    states = stream.record(model, candidates, parts=("after",), layers=(-1,))["after"][0]
    ranks = lens.ranks(lens.LogitLens(model), states, candidates.answer_ids)
    best: dict[str, int] = {}
    for place in torch.argsort(ranks, stable=True).tolist():
        best.setdefault(candidates.prompts[place].argument, place)
    kept = list(best.values())[:n_sources]
    return Sources(
        prompts=candidates.select(kept),
        correct=tuple(bool(ranks[place] == 1) for place in kept),
        pool=len(candidates),
    )


def o_vectors(
    model: LanguageModel, prompts: EncodedPrompts, *, layers: Sequence[int] | None = None
) -> Float[Tensor, "layer source d_model"]:
    """The o vectors of some prompts: what each layer's FFN adds at the last token (section 4)."""
    return stream.record(model, prompts, parts=("ffn",), layers=layers)["ffn"]


def patterns(
    model: LanguageModel,
    relation: Relation | str,
    group: str = "",
    *,
    n_items: int = 0,
    seed: int = 0,
) -> tuple[EncodedPrompts, EncodedPrompts]:
    """Nonsense patterns with the relation's arguments: the development items', the report's."""
    chosen = members(relation, group, seed=seed)
    encoded = encode_relation(model, chosen, "repeated_pattern", n_items=n_items, seed=seed)
    return split_by_argument(encoded, seed=seed)


def without(encoded: EncodedPrompts, arguments: Sequence[str]) -> EncodedPrompts:
    """The prompts about other arguments; all of them where none is left."""
    met = set(arguments)
    kept = [at for at, one in enumerate(encoded.prompts) if one.item.argument not in met]
    return encoded.select(kept) if kept else encoded


def material(
    model: LanguageModel,
    task: Task,
    *,
    n_sources: int = 20,
    n_items: int = 0,
    max_items: int = 0,
    seed: int = 0,
    examples: Sequence[str] = (),
) -> Material:
    """Sources and patterns of a task; of the items that are reported at most `max_items` (0: all).

    The same settings give the same sources and the same items in every experiment.
    """
    drawn = {"n_items": n_items, "seed": seed}
    sources = find_sources(model, task, n_sources=n_sources, examples=examples, **drawn)
    development, report = patterns(model, task.relation, task.group, **drawn)
    answers = frozenset(token for side in (development, report) for token in _answers(side))
    kept = at_most(without(report, sources.arguments), max_items, seed=seed)
    return Material(sources=sources, development=development, report=kept, answers=answers)


def _answers(encoded: EncodedPrompts) -> list[int]:
    return encoded.answer_ids.tolist()
