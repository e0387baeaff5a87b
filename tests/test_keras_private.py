"""Shadowing attributes of one object, and putting back what was there."""

import keras
import pytest

from activation_pruning import keras_private


class Holder:
    """Has a method of its class, and an attribute of its own."""

    def __init__(self):
        self.own = None

    def call(self):
        return "class"


def wrapped(method, word):
    return lambda: f"{word} {method()}"


def test_what_the_class_has_is_back_by_deletion_and_what_the_instance_has_by_its_value():
    holder = Holder()
    with keras_private.overridden([(holder, "call", lambda: "mine"), (holder, "own", 1)]):
        assert (holder.call(), holder.own) == ("mine", 1)
    assert vars(holder) == {"own": None}
    assert holder.call() == "class"


def test_it_is_undone_when_the_block_raises():
    holder = Holder()
    with (
        pytest.raises(ZeroDivisionError),
        keras_private.overridden([(holder, "call", lambda: "mine")]),
    ):
        assert holder.call() == 1 / 0
    assert vars(holder) == {"own": None}


def test_it_is_undone_when_a_later_one_cannot_be_made():
    holder = Holder()
    shadows = ((holder, name, getattr(holder, name)) for name in ("call", "missing"))
    with pytest.raises(AttributeError), keras_private.overridden(shadows):
        pass
    assert vars(holder) == {"own": None}


def test_one_inside_another_and_one_method_twice():
    holder = Holder()
    twice = ((holder, "call", wrapped(holder.call, word)) for word in ("a", "b"))
    with keras_private.overridden(twice):
        assert holder.call() == "b a class"
        with keras_private.overridden([(holder, "call", lambda: "inner")]):
            assert holder.call() == "inner"
        assert holder.call() == "b a class"
    assert holder.call() == "class"


def test_an_override_that_outlives_the_block_is_undone_by_what_it_returns():
    layer = keras.layers.Dense(2)
    undo = keras_private.override(layer, "call", lambda x: x)
    assert layer.call(3) == 3
    undo()
    undo()
    assert "call" not in vars(layer)


def test_a_state_is_tracked_until_it_is_taken_out():
    layer, state = keras.layers.Dense(2), keras.layers.Dropout(0.5)
    undo = keras_private.add_state(layer, state)
    assert state in keras_private.with_sublayers(layer)
    undo()
    assert keras_private.with_sublayers(layer) == [layer]
