"""Zeros added to what flows through a model, so that derivatives can be taken there."""

import contextlib

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private

INPUTS, BEFORE, OUTPUTS = "inputs", "before_activation", "outputs"


def passing(places, pass_by):
    """Have values pass through a function on their way through a model.

    Args:
        places: pairs (layer, where), see `Probes`.
        pass_by: function (place, values) -> the values to go on with.
    """
    return keras_private.overridden(_wrapped(place, pass_by) for place in places)


class Probes:
    """What passes by certain places of a model, and the loss's derivatives there.

    A place is (layer, where): "outputs" of the layer (of several, the one whose number comes
    third), its values "before_activation", or its "inputs", which are seen only. A layer that is
    called several times has a place for each.

    Args:
        places: pairs (layer, where).

    Example:
        >>> layer = keras.layers.Dense(2, "relu", kernel_initializer="ones")
        >>> model = keras.Sequential([keras.Input((3,)), layer])
        >>> probes = Probes([(layer, BEFORE)])
        >>> with probes.seeing():
        ...     _ = model(np.ones((1, 3)))
        >>> probes.seen[layer, BEFORE][0].tolist()
        [[3.0, 3.0]]
        >>> with probes.adding():
        ...     y = model(np.ones((1, 3)))
    """

    def __init__(self, places):
        self.places = list(dict.fromkeys(places))
        self.seen = {place: [] for place in self.places}
        self.zeros = {}

    @property
    def variables(self):
        """The zeros that were added, place by place and call by call, as `keras.Variable`s."""
        return [zeros for own in self.zeros.values() for zeros in own]

    @contextlib.contextmanager
    def seeing(self):
        """Keep what passes by, as NumPy arrays, and make the zeros that fit."""
        self.seen = {place: [] for place in self.places}

        def see(place, values):
            self.seen[place].append(ops.convert_to_numpy(values))
            return values

        with passing(self.places, see):
            yield
        self._fit_zeros()

    @contextlib.contextmanager
    def adding(self):
        """Add the zeros to what passes by, so that derivatives in them can be taken.

        Yields:
            A function to call before every forward pass: the zeros start with the first call.
        """
        calls = {}

        def begin():
            calls.update({place: iter(own) for place, own in self.zeros.items()})

        def add(place, values):
            if place[1] == INPUTS:
                return values
            return values + ops.cast(next(calls[place]), values.dtype)

        begin()
        with passing(self.places, add):
            yield begin

    def _fit_zeros(self):
        """Zeros for batches of this size; those of the batch before are kept where they fit."""
        for place, values in self.seen.items():
            if place[1] == INPUTS:
                continue
            shapes = [value.shape for value in values]
            if [tuple(zeros.shape) for zeros in self.zeros.get(place, [])] != shapes:
                self.zeros[place] = [
                    keras.Variable(np.zeros(shape, "float32"), autocast=False) for shape in shapes
                ]


def _wrapped(place, pass_by):
    layer, where = place[:2]
    name = "activation" if where == BEFORE else "call"
    return layer, name, _WRAPPED[where](getattr(layer, name), place, pass_by)


def _inputs(call, place, pass_by):
    def wrapped(inputs, *args, **kwargs):
        pass_by(place, inputs)
        return call(inputs, *args, **kwargs)

    return wrapped


def _before_activation(activation, place, pass_by):
    if activation is None:  # as good as linear, to Keras
        return lambda values: pass_by(place, values)
    return lambda values: activation(pass_by(place, values))


def _outputs(call, place, pass_by):
    def wrapped(*args, **kwargs):
        result = call(*args, **kwargs)
        leaves = keras.tree.flatten(result)
        own = place[2] if len(place) > 2 else 0
        leaves[own] = pass_by(place, leaves[own])
        return keras.tree.pack_sequence_as(result, leaves)

    return wrapped


_WRAPPED = {INPUTS: _inputs, BEFORE: _before_activation, OUTPUTS: _outputs}
