"""Zeros added to what flows through a model, so that derivatives can be taken there."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private
from activation_pruning.evidence import autodiff, batches
from activation_pruning.sites import padding
from activation_pruning.support.types import Array, Data, Model

INPUTS, BEFORE, OUTPUTS = "inputs", "before_activation", "outputs"


def show(
    model: Model, data: Data, batch_size: int, places: Iterable[tuple], see: Callable[..., None]
) -> None:
    """Run a model over data, in inference mode, and see what passes by places.

    `see(place, array, mask)`: the mask of its first axes is False where a step is padding; None
    where all of it counts.
    """
    filling = padding.Filling(0, 0)

    def pass_by(place, values, mask):
        array = ops.convert_to_numpy(values)
        mask = None if mask is None else ops.convert_to_numpy(mask)
        see(place, array, filling.hidden(place[0], len(array), mask))
        return values

    with passing(dict.fromkeys(places), pass_by):
        for x, samples in batches.to_run(data, batch_size, model):
            filling = padding.Filling(samples, batches.length(x))
            model(x, training=False)


class Probes:
    """What passes by certain places of a model, and the loss's derivatives there.

    A place is (layer, where): its values "before_activation", or its "inputs", which are seen
    only; or (layer, "outputs", source), where a `sites.Source` says what of them shows units. A
    layer that is called several times has values for each call.

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
        self.masks: dict[tuple, list] = {}  # of what was seen, None where there is none
        self.zeros: dict[tuple, list] = {}

    @contextmanager
    def seeing(self) -> Iterator[None]:
        """Keep what passes by, as NumPy arrays, and make the zeros that fit."""
        self.seen = {place: [] for place in self.places}
        self.masks = {place: [] for place in self.places}

        def see(place, values, mask):
            self.seen[place].append(ops.convert_to_numpy(values))
            self.masks[place].append(None if mask is None else ops.convert_to_numpy(mask))
            return values

        with passing(self.places, see):
            yield
        self._fit_zeros()

    def derivatives(self, function: Callable[[], Any]) -> dict[tuple, list[Array]]:
        """d function() / d zeros that are added to what passes by: for each place, by call.

        `function` runs the model once, on the batch that was seen.
        """
        calls: dict[tuple, Iterator] = {}

        def add(place, values, mask):
            if place[1] == INPUTS:
                return values
            return values + ops.cast(next(calls[place]), values.dtype)

        def start():
            calls.update({place: iter(own) for place, own in self.zeros.items()})
            return function()

        variables = [zeros for own in self.zeros.values() for zeros in own]
        with passing(self.places, add):
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


def passing(places: Iterable[tuple], pass_by: Callable[..., Any]) -> AbstractContextManager[None]:
    """Have values go on as `pass_by(place, values, mask)` on their way through a model.

    Args: places: as of `Probes`.
    """
    return keras_private.overridden(one for place in places for one in _wrapped(place, pass_by))


def _wrapped(place, pass_by):
    layer, where = place[:2]
    if where != BEFORE:
        yield layer, "call", (_inputs if where == INPUTS else _outputs)(layer.call, place, pass_by)
        return
    calls: list = []  # the arguments of the one that runs
    yield layer, "call", _noted(layer.call, calls)
    yield layer, "activation", _before_activation(layer.activation, place, pass_by, calls)


def _inputs(call, place, pass_by):
    def wrapped(inputs, *args, **kwargs):
        pass_by(place, inputs, padding.of_inputs(place[0], (inputs, *args), kwargs))
        return call(inputs, *args, **kwargs)

    return wrapped


def _noted(call, calls):
    def wrapped(*args, **kwargs):
        calls.append((args, kwargs))
        try:
            return call(*args, **kwargs)
        finally:
            calls.pop()

    return wrapped


def _before_activation(activation, place, pass_by, calls):
    def wrapped(values):
        mask = padding.of_output(place[0], *calls[-1], values) if calls else None
        values = pass_by(place, values, mask)
        return values if activation is None else activation(values)  # None: as good as linear

    return wrapped


def _outputs(call, place, pass_by):
    source = place[2]

    def wrapped(*args, **kwargs):
        result = call(*args, **kwargs)
        shown = source.seen(args, kwargs, result)
        if shown is None:  # this call shows other things than units
            return result
        leaves = keras.tree.flatten(result)
        leaves[source.output] = pass_by(place, *shown)
        return keras.tree.pack_sequence_as(result, leaves)

    return wrapped
