"""What happens to the gradients of a training step before the optimizer makes use of them.

The total gradients (loss, regularizers) come by in the optimizer's `apply`, which is shadowed:
trackers look at them, transforms change them, and they are masked, so that clipping, momenta and
averages see living weights only.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras import ops

from activation_pruning import keras_private
from activation_pruning.hooks.masking import mask_again, masked, where_alive
from activation_pruning.hooks.tracking import Tracker
from activation_pruning.sites import LiveSite
from activation_pruning.support.names import quoted


class Gradients:
    """The hooks on the optimizers of a model.

    Args:
        tracked: pairs (live site, `Tracker`).
        transforms: pairs (id(variable), function of its gradient).
        masks: pairs (variable, the variable that holds its mask).
        own_step: whether the training step is the user's own. It may write weights past the
            optimizers that can be found, so they are masked after each step, a further pass.
    """

    def __init__(
        self,
        tracked: Iterable[tuple[LiveSite, Tracker]],
        transforms: Iterable[tuple[int, Callable[[Any], Any]]],
        masks: Iterable[tuple[keras.Variable, keras.Variable]],
        own_step: bool = False,
    ):
        masks, self._own_step = list(masks), own_step
        self._masked = {id(variable): variable for variable, _ in masks}
        self._tracked = list(tracked)
        self._trackers = grouped((id(site.variable), one) for site, one in self._tracked)
        self._transforms = grouped(transforms)
        self._masks = grouped((id(variable), mask) for variable, mask in masks)
        # id(variable): those whose gradients this step has shown; on JAX, where variables hold
        # nothing while a step is traced, the values of those that are not trained.
        self._seen: set[int] = set()
        self._values: dict[int, Any] = {}

    def hooks(self, model: keras.Model) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        """What to shadow: (optimizer, name, function of the method, the optimizer, arguments)."""
        inner = keras_private.optimizers(model)
        if self._trackers or self._transforms or self._masks:
            yield from ((optimizer, "apply", self._apply) for optimizer in inner)
        for optimizer in keras_private.outer_optimizers(model) if self._trackers else ():
            if keras.backend.backend() == "jax":
                yield optimizer, "stateless_apply", self._stateless_apply
            elif optimizer not in inner:  # it may skip the step: loss scaling
                yield optimizer, "apply", self._outer_apply

    def step(self, model: keras.Model, train_step: Any, *args: Any, **kwargs: Any) -> Any:
        """Run `train_step`; raises ValueError where the trackers have seen no gradient at all.

        JAX hands the state of the model to `train_step(state, data)` as bare arrays, and takes it
        back with the logs; its second part is in the order of `model.non_trainable_variables`.
        """
        order = model.non_trainable_variables if keras.backend.backend() == "jax" else []
        values = args[0][1] if order else []
        self._seen = set()
        self._values = {id(v): value for v, value in zip(order, values, strict=True)}
        try:
            result = train_step(*args, **kwargs)
            if self._trackers:
                self._check_seen()
                if self._values:
                    logs, (trained, others, *rest) = result
                    new = {id(v): self._values[id(v)] for v in self._kept()}
                    pairs = zip(order, others, strict=True)
                    others = [new.get(id(v), value) for v, value in pairs]
                    result = logs, (trained, others, *rest)
            return self._mask_all(model, result) if self._own_step and self._masks else result
        finally:
            self._values = {}

    def _mask_all(self, model, result):
        """Mask what a step of the user's own has left, by whatever it was written."""
        masks = {key: self._mask_of(variable) for key, variable in self._masked.items()}
        if keras.backend.backend() != "jax":
            for key, variable in self._masked.items():
                variable.assign(where_alive(masks[key], variable.value))
            return result
        logs, (trained, others, *rest) = result
        trained, others = (
            [where_alive(masks.get(id(v)), x) for v, x in zip(variables, values, strict=True)]
            for variables, values in (
                (model.trainable_variables, trained),
                (model.non_trainable_variables, others),
            )
        )
        return logs, (trained, others, *rest)

    def _kept(self):
        return [v for _, tracker in self._tracked for v in tracker.variables.values()]

    def _apply(self, original, optimizer, grads, trainable_variables=None):
        variables, grads = _variables(optimizer, trainable_variables), list(grads)
        if self._trackers and not self._values:
            self._show(optimizer, variables, grads, variables)
        masks = [self._mask_of(variable) for variable in variables]
        for index, (variable, mask) in enumerate(zip(variables, masks, strict=True)):
            if grads[index] is not None:
                for function in self._transforms.get(id(variable), ()):
                    grads[index] = function(grads[index])
                if mask is not None:
                    grads[index] = masked(grads[index], mask)
        result = original(grads, trainable_variables)
        mask_again(optimizer, variables, masks)
        return result

    def _outer_apply(self, original, optimizer, grads, trainable_variables=None):
        grads = list(grads)
        self._note(_variables(optimizer, trainable_variables), grads)
        return original(grads, trainable_variables)

    def _stateless_apply(self, original, optimizer, slots, grads, values):
        # JAX: here the gradients pass by under no condition, unlike in `apply`; what is made of
        # them is kept until the step is over and then put into the state that it returns.
        found, used = _unscaled(optimizer, slots, grads)
        with keras.StatelessScope([(v, self._values[id(v)]) for v in self._kept()]) as scope:
            variables = keras_private.optimizer_variables(optimizer)
            self._show(optimizer, variables, found, values, used)
        self._values |= {id(v): scope.get_current_value(v) for v in self._kept()}
        return original(slots, grads, values)

    def _show(self, optimizer, variables, grads, values, used=True):
        """Show the gradients to the trackers; `used`: whether the optimizer makes use of them."""
        scale = optimizer.loss_scale_factor or 1.0  # `apply` divides by it only later
        self._note(variables, grads)
        for variable, gradient, value in zip(variables, grads, values, strict=True):
            for tracker in self._trackers.get(id(variable), ()) if gradient is not None else ():
                tracker.update(keras_private.dense(gradient) / scale, value, used)

    def _note(self, variables, grads):
        pairs = zip(variables, grads, strict=True)
        self._seen |= {id(variable) for variable, gradient in pairs if gradient is not None}

    def _check_seen(self):
        sites = [site for site, _ in self._tracked]
        if not any(id(site.variable) in self._seen for site in sites):
            raise ValueError(
                f"no gradient of {quoted(sorted({site.path for site in sites}))} reached the "
                "optimizer in a training step: the loss does not depend on these layers, or "
                "train_step does not hand their gradients to apply (on JAX: stateless_apply) of "
                "the model's optimizer. Leave them out by exclude=."
            )

    def _mask_of(self, variable):
        found = None
        for mask in self._masks.get(id(variable), ()):
            # While JAX traces, `mask.value` itself must not be touched: Keras has emptied it.
            value = self._values[id(mask)] if self._values else mask.value
            found = value if found is None else ops.multiply(found, value)
        return found


def grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """{key: list of values} of pairs (key, value)."""
    found: dict[Any, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _variables(optimizer, given):
    return keras_private.optimizer_variables(optimizer) if given is None else list(given)


def _unscaled(optimizer, slots, gradients):
    """Gradients as `stateless_apply` of `optimizer` gets them -> (those of the loss, whether used).

    A LossScaleOptimizer gets them times its scale, and skips steps where one is not finite. (Its
    inner optimizer gets the right ones only, but in a branch that JAX lets no value out of.)
    """
    if not hasattr(optimizer, "inner_optimizer"):
        return gradients, True
    with keras.StatelessScope(list(zip(optimizer.variables, slots, strict=True))):
        scale = ops.convert_to_tensor(optimizer.dynamic_scale)
    return [gradient / scale for gradient in gradients], optimizer.check_finite(gradients)
