"""Sparse and dense phases, as literal lists."""

import pytest
from asked import ask

from activation_pruning.schedules import Alternating, Progress


def test_phases_of_equal_length():
    schedule = Alternating(0.9, begin=2, end=8, sparse=2, dense=2)
    answers = ask(schedule, range(10))
    assert answers == [None, None, 0.9, None, 0.0, None, 0.9, None, 0.9, None]


def test_phases_of_different_length():
    schedule = Alternating(0.9, begin=1, end=7, sparse=1, dense=3)
    assert ask(schedule, range(9)) == [None, 0.9, 0.0, None, None, 0.9, 0.0, 0.9, None]


def test_sparse_for_good_at_once():
    assert ask(Alternating(0.9, begin=2, end=2), range(12)) == [None, None, 0.9] + [None] * 9


def test_the_schedule_of_the_paper():
    """100 epochs: dense for 10, then 5 and 5 in turn, dense from 80 to 85, sparse to the end."""
    schedule = Alternating(0.9, begin=10, end=85)
    answers = ask(schedule, range(101))
    at = {epoch: answer for epoch, answer in enumerate(answers) if answer is not None}
    assert at == {epoch: 0.9 if epoch % 10 == 0 else 0.0 for epoch in range(10, 85, 5)} | {85: 0.9}


def test_the_target_is_known_at_any_time():
    schedule = Alternating(0.9, begin=2, end=8, sparse=2, dense=1)
    told = [schedule.target(Progress(epoch, 0, {}, 0.0, epochs=10)) for epoch in range(10)]
    assert told == [0.0, 0.0, 0.9, 0.9, 0.0, 0.9, 0.9, 0.0, 0.9, 0.9]


def test_by_step():
    schedule = Alternating(0.9, begin=100, end=400, sparse=100, dense=100, by="step")
    assert ask(schedule, [0, 100, 150, 200, 300, 400], by="step") == [None, 0.9, None, 0, 0.9, 0.9]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"final_sparsity": 90}, r"final_sparsity=90; .* 0\.8 for 80 %"),
        ({"begin": -1}, "begin=-1; it must be an integer of at least 0"),
        ({"end": 1}, "end=1 is before begin=2"),
        ({"sparse": 0}, "sparse=0; it must be an integer of at least 1"),
        ({"dense": 0.5}, "dense=0.5; it must be an integer of at least 1"),
        ({"by": "batch"}, "by='batch'; it must be 'epoch' or 'step'"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Alternating(**{"final_sparsity": 0.9, "begin": 2, "end": 8, **arguments})
