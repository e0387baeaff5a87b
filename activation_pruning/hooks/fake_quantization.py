"""Fake quantisation hung on a live model: its layers compute as if in few bits, until it is off."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import pandas as pd

from activation_pruning import keras_private
from activation_pruning.hooks import ranges
from activation_pruning.hooks.ranges import Range
from activation_pruning.sites import LiveSite, kernels
from activation_pruning.support.types import Array, Model, Table

_PLACE = "_activation_pruning_fake_quantization"  # where a model keeps it


class FakeQuantization:
    """What `fake_quantize` has hung on a model: its ranges, and how to take it off again.

    Example:
        >>> import numpy as np, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="a")])
        >>> done = ap.fake_quantize(model, data=np.array([[0.0, 1.0, 2.0, 5.5]]))
        >>> done.table()[["layer", "tensor", "maximum"]].values.tolist()[0]
        ['input_0', 'input', 5.5]
    """

    def __init__(self, model: Model, bits: int) -> None:
        self.model, self.bits = model, bits
        self.ranges: dict[tuple[str, str], Range] = {}  # by (layer, tensor)
        self._weights: dict[int, list[tuple[LiveSite, tuple[int, ...]]]] = {}  # by id of the layer
        self._before: dict[int, Range] = {}
        self._after: dict[int, Range] = {}
        self._constants: dict[int, Array] | None = None
        self._hooked: dict[int, Any] = {}  # layers and operations, by id
        self._undo = contextlib.ExitStack()

    # -- putting it on ---------------------------------------------------------------------

    def attach(self, live_sites: Iterable[LiveSite]) -> None:
        """Round the kernels of these sites, and what has a range in `ranges` by then."""
        for site in live_sites:
            axes = next(
                one.unit_axes
                for one in kernels.of(site.layer) or ()
                if one.variable(site.layer) is site.variable
            )
            self._weights.setdefault(id(site.layer), []).append((site, axes))
            self._hooked[id(site.layer)] = site.layer
        for layer in self._hooked.values():
            self._override(layer, "call", self._call, layer)
        self._override(self.model, "call", self._called, None)
        vars(self.model)[_PLACE] = self
        _retrace(self.model)

    def place(self, place: Any, carrier: keras.Layer, make: Callable[..., Range]) -> None:
        """Add the ranges of one place; `carrier` is the layer whose state they are."""
        self._hooked[id(place.layer)] = place.layer
        for kept, wanted, tensor, fixed in (
            (self._before, place.before, "before activation", None),
            (self._after, place.after, "output", place.fixed),
        ):
            if wanted:
                kept[id(place.layer)] = self._new(place.path, tensor, carrier, make(fixed))

    def inputs(
        self, which: Iterable[int], carrier: keras.Layer, make: Callable[..., Range]
    ) -> None:
        """Add the ranges of these inputs of the model."""
        for index in which:
            self._new(f"input_{index}", "input", carrier, make(None))

    def _new(self, path, tensor, carrier, one):
        self.ranges[path, tensor] = one
        self._undo.callback(keras_private.add_state(carrier, one))
        return one

    def _override(self, owner, name, hook, *about):
        shadow = functools.partial(hook, getattr(owner, name), *about)
        self._undo.callback(keras_private.override(owner, name, shadow))

    # -- what it does ----------------------------------------------------------------------

    def _called(self, original, _, inputs, *args, **kwargs):
        """The model itself: its inputs are rounded."""
        flat = keras.tree.flatten(inputs)
        for index, x in enumerate(flat):
            one = self.ranges.get((f"input_{index}", "input"))
            if one is not None and _real(x):
                # JAX runs the call of a model as such: nobody around it says that it trains.
                flat[index] = one(x, training=kwargs.get("training"))
        return original(keras.tree.pack_sequence_as(inputs, flat), *args, **kwargs)

    def _call(self, original, layer, *args, **kwargs):
        """One layer: with rounded kernels, before its activation and behind it."""
        with contextlib.ExitStack() as inside:
            own = self._weights.get(id(layer), ())
            mapping = [(site.variable, self._rounded(site, axes)) for site, axes in own]
            if mapping:
                inside.enter_context(keras_private.stateless_scope(mapping))
            before = self._before.get(id(layer))
            if before is not None:
                activation = _behind(before, layer.activation, scoped=bool(mapping))
                shadow = [(layer, "activation", activation)]
                inside.enter_context(keras_private.overridden(shadow))
            outputs = original(*args, **kwargs)
        after = self._after.get(id(layer))
        return outputs if after is None else keras.tree.map_structure(after, outputs)

    def _rounded(self, site, axes):
        if self._constants is not None:
            return keras.ops.convert_to_tensor(self._constants[id(site.variable)])
        return ranges.weights(keras.ops.convert_to_tensor(site.variable), axes, self.bits)

    # -- what came of it -------------------------------------------------------------------

    def table(self) -> Table:
        """DataFrame: layer, tensor, bits, minimum, maximum, seen (whether any data was)."""
        rows = [
            (path, tensor, one.bits, *one.read()) for (path, tensor), one in self.ranges.items()
        ]
        names = ["layer", "tensor", "bits", "minimum", "maximum", "seen"]
        return pd.DataFrame(rows, columns=names)

    def kernels(self) -> dict[int, Array]:
        """{id(variable): its rounded weights}."""
        return {
            id(site.variable): ranges.grid(site.kernel(), axes, self.bits)
            for own in self._weights.values()
            for site, axes in own
        }

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside the block weights and ranges are constants, as files hold them."""
        self._constants = self.kernels()
        for one in self.ranges.values():
            one.frozen = one.read()[:2]
        try:
            yield
        finally:
            self._constants = None
            for one in self.ranges.values():
                one.frozen = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(bits={self.bits}) of {self.model.name!r}\n{self.table()}"

    def remove(self) -> None:
        """Take it off: the model computes with its weights in float again."""
        self._undo.close()
        vars(self.model).pop(_PLACE, None)
        _retrace(self.model)

    def finish(self) -> None:
        """Write the rounded weights into the model, and take it off; zeros stay zeros.

        Raises ValueError where it has been taken off already.
        """
        if attached(self.model) is not self:
            raise ValueError("it was taken off this model already: there is nothing to write")
        found = self.kernels()
        for own in self._weights.values():
            for site, _ in own:
                site.variable.assign(found[id(site.variable)])
        self.remove()


def attached(model: Model) -> FakeQuantization | None:
    """The `FakeQuantization` on a model, or None."""
    return vars(model).get(_PLACE)


def _behind(one, activation, scoped):
    """The activation of what has been rounded; a range moves outside of the scope of kernels."""
    if scoped:
        return lambda x: activation(keras_private.outside_scope(lambda: one(x)))
    return lambda x: activation(one(x))


def _real(x):
    return "float" in keras.backend.standardize_dtype(x.dtype)


def _retrace(model):
    keras_private.forget_traces(model)
    if getattr(model, "predict_function", None) is not None:
        model.make_predict_function(force=True)
