"""The `call` of models and layers, run on symbolic tensors and written down as a graph."""

import inspect
import re
import traceback
from pathlib import Path
from typing import Any

import keras

from activation_pruning import keras_private
from activation_pruning.graph import configurations
from activation_pruning.graph.known import REGISTERED
from activation_pruning.graph.reasons import Why
from activation_pruning.graph.twins import Twins
from activation_pruning.keras_private import get_keras_mask, instances, open_sizes, symbolic
from activation_pruning.support.names import unused

_PLAIN = (keras.Layer, keras.layers.Wrapper, keras.Model, keras.Sequential)
# Lines of code in these packages are not the user's.
_FOREIGN = {"keras", "tensorflow", "jax", "torch", "activation_pruning"}


class NotInlined(TypeError):
    """The `call` of a model or layer cannot be written down as a graph; the message says where."""

    def __init__(self, message: str, remedy: str = "", placed: bool = False) -> None:
        super().__init__(f"{message}. {remedy[:1].upper()}{remedy[1:]}" if remedy else message)
        self.why = Why(message, remedy)
        self.placed = placed  # whether the message names a layer and a line


class _Training:
    """Stands for `training` while a graph is written down: not known yet."""

    def __bool__(self):
        raise NotInlined("it does something else in training; leave that to a layer of its own")

    def __repr__(self):
        return "training"


_TRAINING = _Training()


class Tracing:
    """One model on its way into a graph: its `call` is run on symbolic tensors.

    Layers that only put others together are run in their turn, of all others twins are called.

    Args:
        model: built; its variables stay the same objects.
        strict: raise where a layer cannot be taken apart; else it stays whole.
    """

    def __init__(self, model: keras.Model, strict: bool) -> None:
        self._strict = strict
        self.twins = Twins(self._graph)
        for layer in keras_private.with_sublayers(model):
            for own in symbolic.own_state(layer):
                self.twins.know(own, own)
        self._path: list[str] = []
        self._names: set[str] = set()
        self._within_leaf = False
        self._layers: dict[int, tuple[keras.Layer, keras.Layer]] = {}  # original and twin, by id
        self.alike: list[tuple] = []  # pairs of tensors taken to have batches of one size
        self.whole: dict[int, NotInlined] = {}  # why layers could not be taken apart, by id
        # Tensors whose mask is known here but will not be on them when the graph runs.
        self._unmarked: dict[int, keras.KerasTensor] = {}

    def layers(self) -> list[tuple[keras.Layer, keras.Layer]]:
        """(layer, its twin) for all that were called."""
        return list(self._layers.values())

    def run(self, model: keras.Model, inputs: Any) -> Any:
        """The symbolic outputs of a model."""
        self._sparse = any(one.sparse for one in keras.tree.flatten(inputs))
        sizes = open_sizes.shadows(self.alike)
        filtering = keras.config.is_traceback_filtering_enabled()
        keras.config.disable_traceback_filtering()  # it rewrites the errors that are read here
        try:
            with symbolic.calls_given_to(self._called), keras_private.overridden(sizes):
                return self._inside(model, (inputs,), {})
        finally:
            if filtering:
                keras.config.enable_traceback_filtering()

    def _called(self, called, operation, args, kwargs):
        if self._within_leaf:  # Keras asks what it makes of shapes
            return called(operation, *args, **kwargs)
        if not isinstance(operation, keras.Layer):  # of `keras.ops`, in a graph inside
            return called(instances.operation(operation), *args, **kwargs)
        if kwargs.get("training") is _TRAINING:
            kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        elif kwargs.get("training") is not None and "training" in _signature(operation).parameters:
            raise NotInlined(
                f"{operation.name!r} is called with training={kwargs['training']}; a graph has one "
                "`training` for all of its layers"
            )
        if not self._sparse:
            instances.dense((args, kwargs))
        if not is_composite(operation):
            return self._leaf(called, operation, args, kwargs)
        known = set(self._layers)
        self._path.append(operation.name)
        try:
            return self._inside(operation, args, kwargs)
        except NotInlined as error:
            if self._strict and keras_private.sublayers(operation):
                raise
            self.whole[id(operation)] = error
            self._forget(set(self._layers) - known)
        finally:
            self._path.pop()
        return self._leaf(called, operation, args, kwargs)

    def _graph(self, graph):
        """The twin of a model within a layer that stays whole."""
        plain = instances.clone(graph, self.twins)
        new = self.twins.know(graph, instances.bare(graph, plain))
        self.twins.dress(new, graph)
        return new

    def _forget(self, layers):
        """Give back the names of layers whose calls came to nothing."""
        for key in layers:
            original, twin = self._layers.pop(key)
            self._names.discard(twin.name)
            twin.name = original.name

    def _leaf(self, called, layer, args, kwargs):
        """Call the layer's twin, with masks where tensors will not carry them."""
        twin = self._twin(layer)
        tensors = _tensors(layer, args, kwargs)
        given = {
            name: keras.tree.map_structure(get_keras_mask, tensor)
            for name, tensor in _mask_arguments(layer, args, kwargs).items()
            if self._any_unmarked(tensor)
        }
        self._within_leaf = True
        try:
            outputs = called(twin, *args, **kwargs, **given)
        finally:
            self._within_leaf = False
        if self._any_unmarked(tensors) and "mask" not in given:
            self._note_unmarked(outputs)
        return outputs

    def _twin(self, layer):
        if id(layer) not in self._layers:
            twin = self.twins(layer)
            twin.name = unused("-".join([*self._path, layer.name]), self._names, 1)
            self._layers[id(layer)] = layer, twin
        return self._layers[id(layer)][1]

    def _inside(self, layer, args, kwargs):
        """What `call` of a composite layer makes, and the masks that Keras would put on it."""
        args, kwargs = symbolic.converted(layer, args), symbolic.converted(layer, kwargs)
        if "training" in _signature(layer).parameters:
            kwargs = {**kwargs, "training": _TRAINING}
        for name, tensor in _mask_arguments(layer, args, kwargs).items():
            kwargs[name] = keras.tree.map_structure(get_keras_mask, tensor)
        first = next(iter(_signature(layer).bind(*args, **kwargs).arguments.values()))
        mask = kwargs.get("mask")
        if mask is None:
            mask = keras.tree.map_structure(get_keras_mask, first)
        with keras_private.overridden([(layer, "add_loss", _refuse_loss)]):
            try:
                outputs = layer.call(*args, **kwargs)
            except NotInlined as error:
                if error.placed:  # in a layer inside
                    raise
                raise self._refusal(layer, error) from error
            except Exception as error:  # whatever a `call` raises on symbolic tensors
                raise self._refusal(layer, error) from error
        if layer.supports_masking:
            self._mark(layer, first, outputs, mask)
        return outputs

    def _mark(self, layer, first, outputs, mask):
        flat = keras.tree.flatten(outputs)
        if all(get_keras_mask(one) is not None for one in flat):
            return
        masks = layer.compute_mask(first, mask)
        for one, own in zip(flat, keras.tree.flatten(masks), strict=False):
            if own is not None and get_keras_mask(one) is None:
                symbolic.set_keras_mask(one, own)
                self._unmarked[id(one)] = one

    def _any_unmarked(self, tensors):
        return any(id(one) in self._unmarked for one in keras.tree.flatten(tensors))

    def _note_unmarked(self, outputs):
        for one in keras.tree.flatten(outputs):
            if get_keras_mask(one) is not None:
                self._unmarked[id(one)] = one

    def _refusal(self, layer, error):
        path = "/".join(self._path) or layer.name
        cause = str(error).strip().partition("\n")[0]
        return NotInlined(
            f"{path!r} ({type(layer).__name__}) cannot be written down as a graph: {cause}"
            f"{_line(error)}",
            "make its call of layers and keras.ops only",
            placed=True,
        )

    def name_operations(self, model: keras.Model) -> None:
        """Short names for operations, which Keras numbers through the whole session."""
        for operation in model.operations:
            if not isinstance(operation, keras.Layer):
                operation.name = unused(_snake_case(type(operation).__name__), self._names, 1)


def _refuse_loss(*_: Any) -> None:
    raise NotInlined("it adds a loss; leave that to a layer of its own")


def _signature(layer):
    return inspect.signature(layer.call)


def _tensors(layer, args, kwargs):
    """{name of the argument: tensor or structure of tensors}."""
    bound = _signature(layer).bind(*args, **kwargs).arguments
    return {
        name: value
        for name, value in bound.items()
        if any(symbolic.is_symbolic(one) for one in keras.tree.flatten(value))
    }


def _mask_arguments(layer, args, kwargs):
    """{name of a mask argument that Keras fills in: the tensor that carries the mask}."""
    tensors, signature = _tensors(layer, args, kwargs), _signature(layer)
    bound = signature.bind(*args, **kwargs)
    if len(tensors) == 1:
        found = {"mask": next(iter(tensors.values()))}
    else:
        found = {f"{name}_mask": tensor for name, tensor in tensors.items()}
    return {
        name: tensor
        for name, tensor in found.items()
        if name in signature.parameters and bound.arguments.get(name) is None
    }


def is_composite(layer: keras.Layer) -> bool:
    """Whether it only puts layers and operations together, in a `call` of its own."""
    if type(layer) in REGISTERED:
        return False
    if isinstance(layer, keras.Model):
        return not symbolic.own_state(layer)
    if _calls_as_keras(layer):
        return False  # attention, wrappers and the like are known as they are
    if symbolic.own_state(layer) or layer.activity_regularizer:
        return False
    # What no file brings back is better taken apart, too, if it has no weights.
    return bool(keras_private.sublayers(layer)) or not configurations.describes(layer)


def _calls_as_keras(layer):
    """Whether its `call` is one of Keras's own layers'."""
    kind = next(kind for kind in type(layer).__mro__ if "call" in vars(kind))
    return kind not in _PLAIN and kind.__module__.startswith("keras.src.layers.")


def _line(error):
    """(file:line: code), the innermost line that is the user's own."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not _FOREIGN & set(Path(one.filename).parts)]
    if not own:
        return ""
    code = (own[-1].line or "").strip()
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno}: {code})"


def _snake_case(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
