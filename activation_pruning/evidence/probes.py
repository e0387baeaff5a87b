"""Zeros added to what flows through a model, so that derivatives can be taken there."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private
from activation_pruning.evidence import autodiff, batches
from activation_pruning.support.types import Array, Data, Model

INPUTS, BEFORE, OUTPUTS = "inputs", "before_activation", "outputs"


def show(
    model: Model, data: Data, batch_size: int, places: Iterable[tuple], see: Callable[..., None]
) -> None:
    """Run a model over data, in inference mode, and `see(place, array)` what passes by places."""

    def pass_by(place, values):
        see(place, ops.convert_to_numpy(values))
        return values

    with _passing(dict.fromkeys(places), pass_by):
        for x in batches.inputs_of(data, batch_size, model):
            model(x, training=False)


class Probes:
    """What passes by certain places of a model, and the loss's derivatives there.

    A place is (layer, where): "outputs" of the layer (of several, the one whose number comes
    third), its values "before_activation", or its "inputs", which are seen only. A layer that is
    called several times has values for each call.

    Example:
        >>> layer = keras.layers.Dense(2, "relu", kernel_initializer="ones")
        >>> model = keras.Sequential([keras.Input((3,)), layer])
        >>> probes = Probes([(layer, BEFORE)])
        >>> with probes.seeing():
        ...     _ = model(np.ones((1, 3)))
        >>> probes.seen[layer, BEFORE][0].tolist()
        [[3.0, 3.0]]
        >>> probes.derivatives(lambda: ops.sum(model(np.ones((1, 3)))))[layer, BEFORE][0].tolist()
        [[1.0, 1.0]]
    """

    def __init__(self, places: Iterable[tuple]) -> None:
        self.places = list(dict.fromkeys(places))
        self.seen: dict[tuple, list] = {place: [] for place in self.places}
        self.zeros: dict[tuple, list] = {}

    @contextmanager
    def seeing(self) -> Iterator[None]:
        """Keep what passes by, as NumPy arrays, and make the zeros that fit."""
        self.seen = {place: [] for place in self.places}

        def see(place, values):
            self.seen[place].append(ops.convert_to_numpy(values))
            return values

        with _passing(self.places, see):
            yield
        self._fit_zeros()

    def derivatives(self, function: Callable[[], Any]) -> dict[tuple, list[Array]]:
        """d function() / d zeros that are added to what passes by: for each place, by call.

        `function` runs the model once, on the batch that was seen.
        """
        calls: dict[tuple, Iterator] = {}

        def add(place, values):
            if place[1] == INPUTS:
                return values
            return values + ops.cast(next(calls[place]), values.dtype)

        def start():
            calls.update({place: iter(own) for place, own in self.zeros.items()})
            return function()

        variables = [zeros for own in self.zeros.values() for zeros in own]
        with _passing(self.places, add):
            found = map(ops.convert_to_numpy, autodiff.gradients(start, variables))
        return {place: [next(found) for _ in own] for place, own in self.zeros.items()}

    def _fit_zeros(self):
        """Zeros for batches of this size; those of the batch before are kept where they fit."""
        for place in self.places:
            shapes = [value.shape for value in self.seen[place]]
            fitting = [tuple(zeros.shape) for zeros in self.zeros.get(place, [])] == shapes
            if place[1] != INPUTS and not fitting:
                new = (np.zeros(shape, "float32") for shape in shapes)
                self.zeros[place] = [keras.Variable(zeros, autocast=False) for zeros in new]


def _passing(places, pass_by):
    """Have values go on as `pass_by(place, values)` on their way through a model."""
    return keras_private.overridden(_wrapped(place, pass_by) for place in places)


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
