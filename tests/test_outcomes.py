"""What an intervened run ends on, and the other answers that it is compared with."""

import numpy as np

from ovectors.experiments.shared.outcomes import (
    ANSWER,
    ARGUMENT,
    ELSE,
    OTHER,
    SOURCE,
    UNMOVED,
    other_answers,
    outcomes,
)


def test_outcomes_are_sorted_by_what_is_on_top():
    found = outcomes(
        np.array([1, 5, 9, 7, 6, 8, 5]),
        np.array([1.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.0]),
        control_top=np.array([5, 5, 5, 5, 5, 5, 5]),
        control_rank=np.full(7, 4.0),
        answer_ids=np.array([1, 1, 1, 1, 1, 1, 1]),
        argument_ids=np.array([5, 5, 5, 5, 6, 5, 5]),
        source_answer=9,
        relation_answers={1, 7, 9},
    )
    assert found == [
        ANSWER,
        UNMOVED,
        SOURCE,
        OTHER,
        ARGUMENT,
        ELSE,
        ARGUMENT,
    ]


def test_other_answers_are_a_derangement():
    answers = np.array([3, 3, 4, 5, 6, 6, 7, 8])
    arguments = np.arange(100, 108)
    found = other_answers(answers, arguments, seed=1)
    assert sorted(found) == sorted(answers) and (found != answers).all()
    assert (found == other_answers(answers, arguments, seed=1)).all()
    assert (found != other_answers(answers, arguments, seed=2)).any()


def test_a_common_answer_still_leaves_another():
    answers = np.array([3, 3, 3, 4])
    found = other_answers(answers, np.arange(100, 104))
    assert (found != answers).all() and set(found) <= {3, 4}
    assert other_answers(np.array([3, 3]), np.array([1, 2])) is None
