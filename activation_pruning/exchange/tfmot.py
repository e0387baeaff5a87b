"""Legacy tf_keras models, as TensorFlow Model Optimization prunes them, made anew in Keras 3."""

from typing import Any

import keras
import numpy as np

from activation_pruning.exchange.converters import gap, signature
from activation_pruning.exchange.legacy_layers import make, tf_keras, valid
from activation_pruning.graph import copies
from activation_pruning.support.checks import is_number
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Model

_SAMPLES = 16  # random inputs that both models are compared on
_OPERATORS = "is an operator or function of TensorFlow: build the model with layers instead (Add, "
_OPERATORS += "Multiply, Rescaling, Reshape, Cropping1D, ...)"
_ADVICE = {
    "TFOpLambda": _OPERATORS,
    "SlicingOpLambda": _OPERATORS,
    "Lambda": "holds Python code: give a Keras 3 layer for it, custom_objects={'Lambda': ...}",
    "ClusterWeights": "strip it first: tfmot.clustering.keras.strip_clustering(model)",
    "QuantizeWrapperV2": "is quantised: convert the model as it was before quantisation",
    "ThresholdedReLU": "is keras.layers.ReLU(threshold=...) now: build the model with it",
}


def from_tfmot(
    model: Any,
    custom_objects: dict[str, type] | None = None,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> Model:
    """A Keras 3 copy of a legacy `tf_keras` model, pruned by tfmot or not.

    Wrappers of `prune_low_magnitude` are stripped and their masks applied, so pruned weights are
    exact zeros; layers are made anew from their configurations, with "_" for "/" in their names.
    Both models are run on the same random inputs, with masked steps where `Masking` is in them:
    max |new - legacy| must be at most tolerance * max(1, max |legacy|).

    Args:
        model: a built Sequential or Functional `tf_keras` model, nested ones included, wrapped by
            tfmot or stripped.
        custom_objects: {name of a legacy class: Keras 3 class} for layers of one's own. Its
            arguments are those of the legacy configuration, its weights come in the same order.
        tolerance: largest difference of the outputs, see above, at least 0.
        seed: of the random inputs.

    Returns:
        A `keras.Model`, not compiled. It loads without this package unless a layer uses
        "hard_sigmoid", another function in Keras 3.

    Raises:
        ImportError: where tf_keras is not installed; names the command.
        TypeError: for something that is not a `tf_keras` model, or a subclassed one.
        ValueError: for layers that Keras 3 does not know, with all their names and what to do, or
            outputs that differ.

    Example:
        >>> import tf_keras, activation_pruning as ap
        >>> legacy = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(4,), name="a")])
        >>> ap.from_tfmot(legacy).layers[0].name
        'a'
    """
    if not (is_number(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance={shown(tolerance)}; it must be a number of at least 0")
    custom_objects = dict(custom_objects or {})
    _check(model, custom_objects)
    conversion = _Conversion(custom_objects)
    new = conversion.model(model)
    conversion.transfer()
    _compare(model, new, tolerance, seed, conversion.other_masks())
    return new


class _Conversion:
    """One model on its way; a layer that is met again is the same layer again."""

    def __init__(self, custom_objects):
        self.custom_objects = custom_objects
        self.made = {}  # id of a legacy layer -> (it, what it wraps or is itself, its new layer)
        self.masks = {}  # id of a legacy variable -> mask

    def model(self, model):
        """The new model, without the weights."""
        if isinstance(model, tf_keras().Sequential):
            start = model.inputs[0]
            first = keras.Input(batch_shape=tuple(start.shape), dtype=start.dtype.name)
            layers = [self.layer(layer) for layer in model.layers]
            new = keras.Sequential([first, *layers], name=valid(model.name))
            if not getattr(new, "inputs", None):  # Keras stays silent where it loses the shapes
                raise ValueError(
                    f"the shapes within {model.name!r} cannot be followed: a class in "
                    "custom_objects= lacks compute_output_shape"
                )
            return new
        tensors = {id(tensor): _input(model, tensor) for tensor in model.inputs}

        def known(item):
            return tensors.get(id(item), item)

        # A node is one call of a layer; nodes of other models that share a layer never get ready.
        waiting = [(layer, node) for layer in model.layers for node in layer.inbound_nodes]
        waiting = [(layer, node) for layer, node in waiting if not node.is_input]
        while any(id(tensor) not in tensors for tensor in model.outputs):
            left = []
            for layer, node in waiting:
                if any(id(item) not in tensors for item in node.keras_inputs):
                    left.append((layer, node))
                    continue
                options = {key: item for key, item in node.call_kwargs.items() if item is not None}
                given = keras.tree.map_structure(known, [list(node.call_args), options])
                outputs = self.layer(layer)(*given[0], **given[1])
                pair = keras.tree.flatten(node.outputs), keras.tree.flatten(outputs)
                tensors |= {id(old): new for old, new in zip(*pair, strict=True)}
            if len(left) == len(waiting):
                raise ValueError(f"the graph of {model.name!r} cannot be followed to its outputs")
            waiting = left
        ends = [keras.tree.map_structure(known, part) for part in (model.input, model.output)]
        return keras.Model(*ends, name=valid(model.name))

    def layer(self, layer):
        """The new layer in place of a legacy one."""
        if id(layer) not in self.made:
            inner = _unwrapped(layer)
            if inner is not layer:
                self.masks |= {id(weight): mask for weight, mask, _ in layer.pruning_vars}
            new = self.model(inner) if _is_model(inner) else self._build(inner)
            self.made[id(layer)] = layer, inner, new
        return self.made[id(layer)][-1]

    def _build(self, layer):
        config = layer.get_config()
        if type(layer).__name__ == "TimeDistributed":
            config["layer"] = self.layer(layer.layer)  # it may be a whole model
        return make(type(layer), config, self.custom_objects)

    def other_masks(self):
        """Names of the layers that pass masks on where the legacy ones do not, or reversed."""
        pairs = ((layer, new) for layer, _, new in self.made.values() if not _is_model(layer))
        return [new.name for old, new in pairs if old.supports_masking != new.supports_masking]

    def transfer(self):
        """Give the new layers the weights, those under a mask as zeros."""
        for _, layer, new in self.made.values():
            if _is_model(layer) or type(layer).__name__ == "TimeDistributed":
                continue  # their layers are here themselves
            arrays = [_masked(weight, self.masks.get(id(weight))) for weight in layer.weights]
            if isinstance(new, keras.layers.Normalization):
                arrays = arrays[: len(new.weights)]  # legacy ones count their samples as well
            shapes = [array.shape for array in arrays], [tuple(w.shape) for w in new.weights]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"layer {layer.name!r} ({type(layer).__name__}) has weights of shapes "
                    f"{shapes[0]}, its Keras 3 counterpart {shapes[1]}; give custom_objects= a "
                    "class with the same weights"
                )
            new.set_weights(arrays)
            copies.derive(new)


def _check(model, custom_objects):
    if not isinstance(model, tf_keras().Model):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise TypeError(f"model must be a legacy tf_keras model, received {kind}")
    if not _is_model(model):
        raise TypeError(
            f"model {model.name!r} ({type(model).__name__}) is subclassed or not built: its layers "
            "form no graph that could be followed. Build it, or write it for Keras 3 and copy the "
            "weights: new_model.set_weights(tfmot.sparsity.keras.strip_pruning(old).get_weights())"
        )
    unknown = dict(_unknown(model, custom_objects))
    if unknown:
        listed = "; ".join(f"{name!r} {text}" for name, text in unknown.items())
        raise ValueError(f"model {model.name!r} holds layers that Keras 3 does not know: {listed}")


def _unknown(model, custom_objects):
    """Pairs (name, what to do) of the layers without a counterpart."""
    for layer in model.layers:
        if _is_model(layer):
            yield from _unknown(layer, custom_objects)
            continue
        layer = _unwrapped(layer)
        name, legacy = type(layer).__name__, type(layer).__module__.startswith("tf_keras.")
        known = legacy and hasattr(keras.layers, name) and name != "Lambda"
        if not known and name not in custom_objects:
            general = f"give its Keras 3 class, custom_objects={{{name!r}: ...}}"
            yield layer.name, f"({name}) {_ADVICE.get(name, general)}"


def _compare(model, new, tolerance, seed, other_masks):
    called = signature(new)
    (batch,) = called.random(new.inputs[0].shape[0] or _SAMPLES, seed)
    inputs = keras.tree.pack_sequence_as(model.input, batch)
    expected = [np.asarray(item) for item in keras.tree.flatten(model(inputs, training=False))]
    for found, wanted in zip(called.outputs(batch), expected, strict=True):
        difference, largest = gap(found, wanted)
        if not difference <= tolerance * max(1.0, largest):
            raise ValueError(
                f"the outputs of the Keras 3 copy of {model.name!r} differ from the legacy ones by "
                f"up to {difference:.3g}, tolerance={tolerance:g}: {_cause(model, other_masks)}"
            )


def _cause(model, other_masks):
    if not other_masks:
        return (
            "a layer computes something else in Keras 3. Compare the layers' outputs, and give "
            "custom_objects= for that one"
        )
    text = f"legacy and new layers do not pass on the same masks: {other_masks}. "
    if any(_unwrapped(layer) is not layer for layer in model.submodules):
        return text + (
            "Wrappers of tfmot lose masks, which the layers in them pass on: convert the model "
            "without them, tfmot.sparsity.keras.strip_pruning(model)"
        )
    return text + "Give custom_objects= classes that do as the legacy ones, or mask another layer"


def _is_model(layer):
    """Whether it is a model with a graph: a subclassed one, or one not built, has no inputs."""
    return isinstance(layer, tf_keras().Model) and bool(layer.inputs)


def _unwrapped(layer):
    return layer.layer if type(layer).__name__ == "PruneLowMagnitude" else layer


def _input(model, tensor):
    """A Keras 3 input in place of a legacy one."""
    name = next(
        layer.name
        for layer in model.layers
        for node in layer.inbound_nodes
        if node.is_input and any(tensor is output for output in keras.tree.flatten(node.outputs))
    )
    shape, dtype = tuple(tensor.shape), tensor.dtype.name
    return keras.Input(batch_shape=shape, dtype=dtype, name=valid(name))


def _masked(weight, mask):
    values = np.asarray(weight)
    return values if mask is None else np.where(np.asarray(mask) != 0, values, 0)
