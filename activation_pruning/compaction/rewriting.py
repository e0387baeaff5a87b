"""Takes what pruning has left without effect out of a model, for good."""

import warnings
from typing import Any

import keras
import numpy as np

from activation_pruning import keras_private, sites
from activation_pruning.compaction import listing
from activation_pruning.compaction.removal import Removal
from activation_pruning.graph import channels, copies, inlining
from activation_pruning.graph.known import acting_as
from activation_pruning.graph.known import known as has_rule
from activation_pruning.graph.twins import NotCopied
from activation_pruning.keras_private import instances
from activation_pruning.layers import wrapping
from activation_pruning.pruning import report
from activation_pruning.support.types import Model, Table

_INSIDE = {  # {wrapper: {entry of its configuration: attribute that holds the layer}}
    keras.layers.Bidirectional: {"layer": "forward_layer", "backward_layer": "backward_layer"},
    keras.layers.TimeDistributed: {"layer": "layer"},
}


def compact(model: Model, inputs: Any = None) -> Model:
    """A smaller plain copy of a model with the same outputs: pruned units are really gone.

    A unit goes when no layer reads it (all the weights that leave it are zeros), or when it is a
    constant (all the weights that enter it are zeros) whose contribution fits exactly into the
    biases of the layers that read it; units that meet in an Add or the like go together or not at
    all. Whatever cannot go exactly stays, see `removable`.

    Args:
        model: a built model of any class, nested ones and shared layers included; wrappers such as
            `PrunedLayer` are taken off. Where layers of users' own put others together it is
            taken apart first, see `ap.inline`; what cannot be taken apart stays whole.
        inputs: of a subclassed model, as for `ap.inline`; None where Keras knows their shape.

    Returns:
        A new `keras.Model`, compiled alike with a fresh optimizer state. Outputs in inference are
        the same but for rounding; inputs and outputs keep their shapes.

    Raises:
        TypeError: for a legacy model, one whose `call` cannot be written down as a graph (names the
            line), or a layer that cannot be copied.
        ValueError: for an unbuilt model, or non-finite weights.

    Warns:
        UserWarning: nothing can be removed, with the reasons; the copy is then just that.

    Example:
        >>> import activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, "relu", name="a"),
        ...                           keras.layers.Dense(2, name="b")])
        >>> report = ap.prune(model, 0.5, granularity="unit")
        >>> small = ap.compact(model)
        >>> small.layers[0].units, model.count_params(), small.count_params()
        (3, 68, 35)
    """
    plain, found = _plain(model, inputs)
    report.warn_revived(model)
    gone = _removal(plain, found)
    if not gone.channels.any():
        reasons = listing.table(plain, gone, found.paths)["reason"]
        known = list(dict.fromkeys(filter(None, reasons)))
        more = f"; and {len(known) - 5} more, see ap.removable" if len(known) > 5 else ""
        said = "; ".join(known[:5]) or "no unit is pruned as a whole"
        warnings.warn(f"compact: no unit can be removed: {said}{more}", stacklevel=2)
    return copies.rebuild(
        plain,
        lambda layer, copy: _smaller(layer, copy, gone),
        lambda layer, new: _transfer(layer, new, gone),
        lambda inner: _inputs(inner, gone),
        lambda operation: _narrowed(operation, gone),
    )


def removable(model: Model, inputs: Any = None) -> Table:
    """What `compact` would remove from each layer, and why it leaves the rest of the pruned units.

    Args:
        model, inputs: as for `compact`.

    Returns:
        DataFrame, one row for each layer that makes channels, and for each other one that has
        pruned units: layer, kind (units, filters, heads, ...), units, constant (units without
        incoming weights), removed, left (constant and not removed), reason (why those are left),
        remedy (what to do about it). Layers go by their paths, "block/inner", as in reports.

    Raises:
        TypeError, ValueError: as `compact`.

    Example:
        >>> import activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, "relu", name="a"),
        ...                           keras.layers.Dense(2, name="b")])
        >>> report = ap.prune(model, 0.5, granularity="unit")
        >>> ap.removable(model)[["layer", "units", "removed", "left"]].values.tolist()
        [['a', 6, 3, 0], ['b', 2, 0, 0]]
    """
    plain, found = _plain(model, inputs)
    return listing.table(plain, _removal(plain, found), found.paths)


def _removal(model, found):
    flow = channels.follow(model, found.whole)
    channels.pin_ties(flow, model)
    return Removal(flow)


def _plain(model, inputs):
    sites.check_model(model)
    found = inlining.flattened(model, inputs)
    for variable in found.graph.weights:
        if "float" in str(variable.dtype):
            values = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
            if not np.isfinite(values).all():
                raise ValueError(f"{variable.path} holds NaN or infinite values: nothing to keep")
    return wrapping.plain(found.graph), found


def _smaller(layer, copy, gone):
    """A new layer in the place of `layer`, with fewer units where some go."""
    inside = {id(one) for one in keras_private.with_sublayers(layer)}
    own = [size for size in gone.flow.sizes.values() if id(size.layer) in inside]
    if id(layer) in gone.flow.exchanged:
        _, make, _ = gone.flow.exchanged[id(layer)]
        return make(layer, **_changes(layer, gone))
    if not (any(gone.of(size.ids).any() for size in own) or gone.touches(layer)):
        # Layers without weights may have been built for channels that go.
        passes = gone.channels.any() and not layer.weights and has_rule(layer)
        return _for_any_channels(layer, copy) if passes else copy(layer)
    changes = _changes(layer, gone)
    fold = gone.fold(layer)
    if fold is not None and getattr(layer, "bias", None) is None:
        changes["use_bias"] = True
    return copies.resized_layer(layer, **changes)


def _for_any_channels(layer, copy):
    """A layer without weights that has not been built for certain channels, if it can be had."""
    try:
        return copies.resized_layer(layer)
    except NotCopied:  # it says nothing of how it was made
        return copy(layer)


def _changes(layer, gone):
    """What becomes of the configuration of a layer, and of those that a wrapper holds."""
    own = [size for size in gone.flow.sizes.values() if size.layer is layer]
    found = {size.key: size.make(int((~gone.of(size.ids)).sum())) for size in own}
    for key, attribute in _INSIDE.get(acting_as(type(layer)), {}).items():
        changes = _changes(getattr(layer, attribute), gone)
        if changes:
            config = copies.config_of(layer)[key]
            found[key] = {**config, "config": {**config["config"], **changes}}
    return found


def _narrowed(operation, gone):
    """An operation of `keras.ops`, with the number of channels that stay where it has one."""
    changes = _changes(operation, gone)
    if not changes:
        return instances.operation(operation)
    return instances.changed_operation(operation, **changes)


def _transfer(layer, new, gone):
    """Give `new` the weights of `layer` that stay, and what constants contributed."""
    added = getattr(layer, "bias", None) is None and getattr(new, "bias", None) is not None
    sources = [*layer.weights, *_states(layer)]
    targets = [v for v in [*new.weights, *_states(new)] if not (added and v is new.bias)]
    if len(targets) != len(sources):
        raise AssertionError(f"{layer.name!r} changed its weights on the way: a defect, report it")
    folds = {id(inner.bias): gone.fold(inner) for inner in gone.folding(layer)}
    for old, variable in zip(sources, targets, strict=True):
        values = keras.ops.convert_to_numpy(old)
        if folds.get(id(old)) is not None:
            values = (values + _as_bias(folds[id(old)], values.shape)).astype(values.dtype)
        if id(old) in gone.flow.factors:
            ids, make, offset = gone.flow.factors[id(old)]
            values = (values + offset) * make(int((~gone.of(ids)).sum())) - offset
        if id(layer) in gone.flow.exchanged:
            values = values + gone.flow.exchanged[id(layer)][2]
        for axis, ids in gone.flow.slices.get(id(old), (old, {}))[1].items():
            values = np.compress(~gone.of(ids), values, axis=axis)
        variable.assign(values)
    if added:
        new.bias.assign(gone.fold(layer)[~gone.of(gone.flow.units[id(layer)][1])])
    copies.finalize(layer, new)


def _states(layer):
    """What stateful layers keep from batch to batch, which Keras doesn't count as weights."""
    inside = [
        one for one in keras_private.with_sublayers(layer) if isinstance(one, keras.layers.RNN)
    ]
    return [variable for one in inside for variable in keras.tree.flatten(one.states or ())]


def _as_bias(fold, shape):
    """What is added to a bias: a GRU keeps two of them, the first for what comes in."""
    if shape == (2, len(fold)):
        return np.stack([fold, np.zeros(len(fold))])
    return fold.reshape(shape)


def _inputs(model, gone):
    """Inputs for a nested model whose channels have become fewer; None where they are the same."""
    taken = gone.flow.inputs.get(id(model), [])  # none for a model that a layer holds
    if not any(gone.of(x.ids).any() for x in taken):
        return None
    found = []
    for tensor, x in zip(model.inputs, taken, strict=True):
        count = int((~gone.of(x.ids)).sum())
        shape = [count if axis == x.axis else n for axis, n in enumerate(tensor.shape)]
        found.append(keras.Input(batch_shape=shape, dtype=tensor.dtype, name=tensor.name))
    return keras.tree.pack_sequence_as(model.input, found)
