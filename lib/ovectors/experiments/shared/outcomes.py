"""What an intervened run ends on: the answer, nothing new, another answer, or something else."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Int

ANSWER, UNMOVED = "the answer", "nothing moves"
SOURCE, OTHER = "the source's own answer", "another answer of the relation"
ARGUMENT, ELSE = "the argument stays", "something else"
OUTCOMES = (ANSWER, UNMOVED, SOURCE, OTHER, ARGUMENT, ELSE)
RULES = {
    ANSWER: "the answer's first token is on top",
    UNMOVED: "the top token is the control run's, and the answer ranks no better than there",
    SOURCE: "on top is the answer of the example that the vector comes from",
    OTHER: "on top is the answer of another item of the relation",
    ARGUMENT: "the argument's first token is on top, though the answer ranks better than before",
    ELSE: "any other token is on top",
}
"""How each intervened run is sorted: by the first of these that is true, in this order."""


def outcomes(
    top: Int[np.ndarray, " item"],
    rank_answer: Float[np.ndarray, " item"],
    *,
    control_top: Int[np.ndarray, " item"],
    control_rank: Float[np.ndarray, " item"],
    answer_ids: Int[np.ndarray, " item"],
    argument_ids: Int[np.ndarray, " item"],
    source_answer: int | None,
    relation_answers: Iterable[int],
) -> list[str]:
    """Sort the runs of one vector by what is on top in the end: one of `OUTCOMES` an item.

    `control_top` and `control_rank` are what the run without intervention gives. `source_answer` is
    None where the vector comes from no single example.
    """
    known = np.isin(top, list(relation_answers))
    tests: list[tuple[str, Bool[np.ndarray, " item"]]] = [
        (ANSWER, top == answer_ids),
        (UNMOVED, (top == control_top) & (rank_answer >= control_rank)),
        (SOURCE, top == (-1 if source_answer is None else source_answer)),
        (OTHER, known),
        (ARGUMENT, top == argument_ids),
    ]
    found = np.select([test for _, test in tests], [name for name, _ in tests], default=ELSE)
    return found.tolist()


def other_answers(
    answer_ids: Int[np.ndarray, " item"], argument_ids: Int[np.ndarray, " item"], *, seed: int = 0
) -> Int[np.ndarray, " item"] | None:
    """For each item the answer of another: a seeded derangement of the relation's answers.

    Every answer is handed out as often as it occurs, and no item gets its own. Where one answer
    belongs to more than half of the items that cannot be, and each item gets one that is drawn from
    the other answers. An order in which no item gets its own argument is looked for. None where all
    items have the same answer.
    """
    answers = np.asarray(answer_ids)
    different, counts = np.unique(answers, return_counts=True)
    if len(different) < 2:
        return None
    rng = random.Random(f"derangement|{seed}")
    fewest, best = len(answers) + 1, answers
    for _ in range(20):
        dealt = _dealt(answers, different.tolist(), int(counts.max()), rng)
        clashes = int((dealt == np.asarray(argument_ids)).sum())
        if clashes < fewest:
            fewest, best = clashes, dealt
        if not clashes:
            break
    return best


def _dealt(
    answers: Int[np.ndarray, " item"], different: list[int], most: int, rng: random.Random
) -> Int[np.ndarray, " item"]:
    """One draw: sorted by answer, in an order of answers drawn, each item takes the answer `most`
    places on, which is beyond the last of its own."""
    if 2 * most > len(answers):
        drawn = [rng.choice([one for one in different if one != own]) for own in answers.tolist()]
        return np.array(drawn)
    shuffled = rng.sample(different, len(different))
    place = {answer: number for number, answer in enumerate(shuffled)}
    keys = [(place[own], rng.random()) for own in answers.tolist()]
    order = np.array(sorted(range(len(answers)), key=keys.__getitem__))
    dealt = np.empty_like(answers)
    dealt[order] = np.roll(answers[order], -most)
    return dealt
