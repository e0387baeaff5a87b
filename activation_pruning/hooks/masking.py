"""What keeps pruned weights at zero, whatever the optimizer does.

Writing masks sets weights and the optimizer's slots (momenta, averages) to zero. Training steps
then mask the gradients before the update (`gradients`), and the weights again after an update that
could have moved them all the same.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private
from activation_pruning.graph.channels.coupling import Offset
from activation_pruning.sites import LiveSite
from activation_pruning.support.types import Array, Arrays, Mask

# The smallest number that is not computed with as zero; float16 is, in float32.
_LEAST = {name: float(np.finfo(np.float32).tiny) for name in ("float32", "bfloat16")}
_LEAST |= {"float64": float(np.finfo(np.float64).tiny), "float16": 2.0**-24}
Maskable: TypeAlias = LiveSite | Offset

_O, _C = keras.optimizers, keras.constraints
_ENTRYWISE = {
    _O.SGD, _O.Adam, _O.AdamW, _O.Adamax, _O.Nadam, _O.RMSprop, _O.Adagrad, _O.Adadelta, _O.Lion,
    _O.Lamb, _O.Adafactor,
}  # fmt: skip
_SCALING = {_C.MaxNorm, _C.MinMaxNorm, _C.UnitNorm, _C.NonNeg}


def mask_variable(variable: keras.Variable) -> keras.Variable:
    """A variable for the mask of `variable`, spread over devices as that is; all are alive."""
    ones, placed = np.ones(variable.shape, "float32"), keras_private.placement(variable)
    return keras.Variable(ones, trainable=False, dtype=variable.dtype, autocast=False, **placed)


def assign_mask(
    site: Maskable, mask: Mask, kept: Mask | None = None, values: Array | None = None
) -> None:
    """Set the pruned weights of a live site to zero, and its wrapper's mask where there is one.

    With `kept` all weights but those become zeros, whether alive by `mask` or not. The others
    become `values`, or stay as they are.
    """
    values = ops.convert_to_numpy(site.variable) if values is None else values
    _clear(site.variable, mask if kept is None else kept, _apart(site, values))
    if site.mask_variable is not None:
        site.mask_variable.assign(mask)


def clear_slots(optimizer: keras.Optimizer, variable: keras.Variable, kept: Mask) -> None:
    """Set the optimizer's momenta and averages of `variable` to zero but for what is kept."""
    if any(known is variable for known in keras_private.optimizer_variables(optimizer)):
        for slot in keras_private.slots(optimizer, variable):
            _clear(slot, kept)


def clear_momenta(model: keras.Model) -> None:
    """Set the momenta of all that a model trains to zero; averages and squares stay."""
    with keras_private.strategy_scope(model):
        for optimizer in keras_private.optimizers(model):
            for momentum in keras_private.momenta(optimizer):
                momentum.assign(ops.zeros(momentum.shape, momentum.dtype))


def _clear(variable, kept, values=None):
    values = ops.convert_to_numpy(variable) if values is None else values
    values = np.where(kept, values, np.zeros((), values.dtype))
    variable.assign(ops.cast(values, variable.dtype))


def keep_from_zero(live_sites: Iterable[Maskable], values: Arrays) -> None:
    """Write values, {site name: those of its variable}, again if too near to zero: `_apart`."""
    for site in live_sites:
        found = values.get(site.name)
        if found is not None and (apart := _apart(site, found)) is not found:
            site.variable.assign(ops.cast(apart, site.variable.dtype))


def _apart(site: Maskable, values: Array) -> Array:
    """The values, where what is not zero is at least that far from it that it stays so.

    TensorFlow and JAX compute with subnormal numbers as with zero, and a training step writes that
    back: a weight that is alive would look pruned.
    """
    least = values.dtype.type(_LEAST.get(site.variable.dtype, 0.0))
    tiny = (np.abs(values) < least) & (values != 0)
    return np.where(tiny, np.copysign(least, values), values) if tiny.any() else values


def mask_again(optimizer: keras.Optimizer, variables: Sequence[Any], masks: Sequence[Any]) -> None:
    """Mask what the update of `optimizer` may have moved without a gradient."""
    for variable, mask in zip(variables, masks, strict=True):
        if mask is not None and not _keeps_zeros(optimizer, variable):
            variable.assign(where_alive(mask, variable.value))


def masked(values: Any, mask: Any) -> Any:
    """`values * mask`: zeros where the mask is 0 or False.

    A product, because XLA multiplies floats faster than it selects by booleans.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(values, tf.IndexedSlices):  # Embedding: rows that the batch touched
            kept = values.values * tf.gather(tf.cast(mask, values.dtype), values.indices)
            return tf.IndexedSlices(kept, values.indices, values.dense_shape)
    return values * ops.cast(mask, values.dtype)


def where_alive(mask: Any, values: Any) -> Any:
    """`values` where the mask, if any, is not 0, and zeros elsewhere, even over NaN."""
    return values if mask is None else ops.where(mask > 0, values, ops.zeros_like(values))


def _keeps_zeros(optimizer, variable):
    """Whether a zero weight with a zero gradient and zero slots stays zero by itself.

    True for the update rules of Keras that work entry by entry. Everything else (Muon mixes the
    entries of a matrix, optimizers of users' own, constraints of users' own) is masked again
    after each update, a further pass over the weights.
    """
    constraint = variable.constraint
    return type(optimizer) in _ENTRYWISE and (constraint is None or type(constraint) in _SCALING)
