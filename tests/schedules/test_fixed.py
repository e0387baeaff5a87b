"""When and how much, as literal lists."""

from itertools import pairwise

import pytest
from asked import ask
from hypothesis import given, settings
from hypothesis import strategies as st

from activation_pruning.schedules import (
    Constant,
    Exponential,
    Linear,
    OneShot,
    Polynomial,
    Progress,
)


def test_one_shot():
    assert ask(OneShot(0.8, at=2), range(5)) == [None, None, 0.8, None, None]
    assert ask(OneShot(0.8), range(3)) == [None, 0.8, None]
    assert ask(OneShot(0.8, at=0), range(2)) == [0.8, None]


def test_constant_asserts_itself_again():
    assert ask(Constant(0.5), range(3)) == [0.5, 0.5, 0.5]
    assert ask(Constant(0.5, begin=1, frequency=2), range(6)) == [None, 0.5, None, 0.5, None, 0.5]
    assert ask(Constant(0.5, 1, end=4, frequency=2), range(6)) == [None, 0.5, None, 0.5, 0.5, None]


def test_linear():
    assert ask(Linear(0.8, 0, 4), range(6)) == [0.0, 0.2, 0.4, 0.6, 0.8, None]
    assert ask(Linear(0.8, 1, 5, initial_sparsity=0.4), range(1, 7)) == [
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        None,
    ]


def test_polynomial_has_the_power_of_zhu_and_gupta():
    # 0.8 - 0.8 * (3/4)**3, (2/4)**3, (1/4)**3
    assert ask(Polynomial(0.8, 0, 4), range(6)) == [0.0, 0.4625, 0.7, 0.7875, 0.8, None]
    assert ask(Polynomial(0.8, 0, 4, power=1), range(6)) == ask(Linear(0.8, 0, 4), range(6))
    assert ask(Polynomial(0.8, 0, 2, initial_sparsity=0.4, power=2), [1]) == [0.7]


def test_exponential_keeps_the_same_share_each_time():
    # densities 1, 1/2, 1/4, 1/8
    assert ask(Exponential(0.875, 0, 3), range(5)) == [0.0, 0.5, 0.75, 0.875, None]
    assert ask(Exponential(0.875, 0, 2, initial_sparsity=0.5), range(3)) == [0.5, 0.75, 0.875]


def test_the_end_is_an_event_even_off_the_beat():
    answers = ask(Linear(0.8, 1, 5, frequency=3), range(7))
    assert answers == [None, 0.0, None, None, 0.6, 0.8, None]


def test_a_ramp_of_no_length_jumps():
    assert ask(Polynomial(0.8, 2, 2, initial_sparsity=0.1), range(4)) == [None, None, 0.8, None]


def test_by_step_counts_steps():
    assert ask(OneShot(0.8, at=100, by="step"), [0, 1, 100, 101], by="step") == [
        None,
        None,
        0.8,
        None,
    ]
    assert ask(Linear(0.8, 0, 200, frequency=100, by="step"), [0, 50, 100, 200, 300], "step") == [
        0.0,
        None,
        0.4,
        0.8,
        None,
    ]


@given(
    kind=st.sampled_from([Linear, Polynomial, Exponential]),
    sparsities=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    begin=st.integers(0, 20),
    length=st.integers(0, 20),
    frequency=st.integers(1, 7),
)
@settings(max_examples=80, deadline=None)
def test_ramps_rise_from_initial_to_exactly_final(kind, sparsities, begin, length, frequency):
    low, high = sorted(sparsities)
    schedule = kind(high, begin, begin + length, initial_sparsity=low, frequency=frequency)
    answers = [schedule(Progress(t, 0, {}, 0.0, 50)) for t in range(50)]
    fired = [a for a in answers if a is not None]
    assert all(a is None for a in answers[:begin] + answers[begin + length + 1 :])
    assert fired[-1] == high
    assert fired[0] == pytest.approx(low if length else high, abs=1e-12)
    assert all(b >= a - 1e-12 for a, b in pairwise(fired))
    assert all(low - 1e-12 <= a <= high + 1e-12 for a in fired)
