"""In-place counting and masking: what hangs on a plain compiled model while `fit` runs.

Counting shadows the `call` of the layer whose output is counted. Masking shadows the optimizer's
`apply`: the total gradient (loss, regularizers, everything) is masked before the update and the
weights are masked after it, so pruned weights stay exact zeros whatever the optimizer does, and
clipping, momenta and averages see only living weights. Tracking looks at the gradients there, too,
before they are masked, and then transforms change them. All act inside training steps only.
"""

import contextlib
import functools
import weakref

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private
from activation_pruning.hooks.counting import STATISTICS, Counter
from activation_pruning.hooks.tracking import Tracker

_O, _C = keras.optimizers, keras.constraints
_ENTRYWISE = {
    _O.SGD, _O.Adam, _O.AdamW, _O.Adamax, _O.Nadam, _O.RMSprop, _O.Adagrad, _O.Adadelta, _O.Lion,
    _O.Lamb, _O.Adafactor,
}  # fmt: skip
_SCALING = {_C.MaxNorm, _C.MinMaxNorm, _C.UnitNorm, _C.NonNeg}
_PLACE = "_activation_pruning"  # where a model keeps its Attachment while it has one


class _State(keras.Layer):
    """Holds variables for a training step; shows none of them to `get_weights` or a saved file."""

    def __init__(self, **variables):
        super().__init__(name="activation_pruning_state", trainable=False)
        for name, variable in variables.items():
            setattr(self, name, variable)
        self.built = True

    @property
    def weights(self):
        # Seen by Keras as `variables` (so that JAX carries them) but not as `weights`: callbacks
        # that keep and restore weights must neither store nor roll back masks and counts.
        return []


class Attachment:
    """Everything of ours on one model. Callbacks add and release what they need by `owner`."""

    def __init__(self, model):
        self._model = weakref.ref(model)
        self._counters = {}  # owner -> {source: Counter}
        self._masks = {}  # owner -> {id(variable): (live site, mask variable)}
        self._trackers = {}  # owner -> {id(variable): (live site, Tracker)}
        self._transforms = {}  # owner -> {id(variable): function of the gradient}
        self._listeners = {}  # owner -> function
        self._states = []  # (layer, state) pairs in place
        self._overridden = []  # (owner, name, what vars(owner) held before)
        self._training, self._traced = False, {}
        self._masking, self._seen = False, set()

    @property
    def model(self):
        return self._model()

    @property
    def owners(self):
        """Whoever counts or masks here now."""
        known = self._counters, self._masks, self._trackers, self._transforms, self._listeners
        return list(dict.fromkeys(owner for owners in known for owner in owners))

    # -- what callbacks ask for ------------------------------------------------------------

    def count(self, owner, live_sites, threshold=0.0, statistics=tuple(STATISTICS)):
        """Count for `live_sites` from now on; sites that share a source share a counter."""
        with keras_private.strategy_scope(self.model):
            sources = dict.fromkeys(site.source for site in live_sites)
            self._counters[owner] = {s: Counter(s, threshold, statistics) for s in sources}
        self._rebuild()
        return self._counters[owner]

    def track(self, owner, live_sites, statistics):
        """Follow the gradients of `live_sites` from now on: {site name: Tracker}.

        A training step from which no gradient of a site arrives raises ValueError.
        """
        with keras_private.strategy_scope(self.model):
            self._trackers[owner] = {
                id(site.variable): (site, Tracker(site.variable, statistics)) for site in live_sites
            }
        self._rebuild()
        return {site.name: tracker for site, tracker in self._trackers[owner].values()}

    def mask(self, owner, live_sites):
        """Keep what `set_masks` prunes at zero; no mask costs anything before the first one."""
        with keras_private.strategy_scope(self.model):
            self._masks[owner] = {
                id(site.variable): (site, _mask_variable(site.variable)) for site in live_sites
            }
        self._rebuild()

    def set_masks(self, owner, live_sites, masks, values=None):
        """Write new masks: weights, optimizer slots and averages become exact zeros where pruned.

        They are zeros as well where a weight was pruned before and is alive now: it starts anew.

        Args:
            owner: whoever called `mask`.
            live_sites: the sites to write.
            masks: {site name: bool array, True where alive}.
            values: {site name: what its variable holds}, of those that have been read already.
        """
        self.sync()
        if not self._masking and all(mask.all() for mask in masks.values()):
            return
        with keras_private.strategy_scope(self.model):
            for site in live_sites:
                mask, known = masks[site.name], self._masks[owner][id(site.variable)][1]
                kept = mask & (ops.convert_to_numpy(ops.cast(known, "float32")) > 0)
                known.assign(mask)
                assign_mask(site, mask, kept, (values or {}).get(site.name))
                for optimizer in keras_private.optimizers(self.model):
                    _clear_slots(optimizer, site.variable, kept)
        if not self._masking:
            self._masking = True
            self._rebuild()  # not a mere retrace: JAX would find the old step function in its cache

    def transform(self, owner, live_sites, functions):
        """Give the optimizer `functions[site.name](gradient)` for the gradient of each site."""
        self._transforms[owner] = {id(site.variable): functions[site.name] for site in live_sites}
        self._rebuild()

    def listen(self, owner, function):
        """Call `function("before")` and `function("after")` around every pruning event."""
        self._listeners[owner] = function
        self._rebuild()

    def masked(self, kind):
        """The live sites that owners of class `kind` mask, each once."""
        found = {}
        for owner, masks in self._masks.items():
            if isinstance(owner, kind):
                found |= {key: site for key, (site, _) in masks.items()}
        return list(found.values())

    def shared(self, owner):
        """The live sites of `owner` that others mask as well."""
        others = set().union(*(self._masks[other] for other in self._masks if other is not owner))
        return [site for key, (site, _) in self._masks[owner].items() if key in others]

    @contextlib.contextmanager
    def event(self, epoch):
        """Around a pruning event after so many epochs: listeners hear of its start and end."""
        for listener in self._listeners.values():
            listener("before", epoch)
        yield
        for listener in self._listeners.values():
            listener("after", epoch)

    def sync(self):
        """Bring the variables up to date in the middle of an epoch (JAX keeps them to itself)."""
        keras_private.sync(self.model)

    def release(self, owner):
        """Take away what `owner` added."""
        known = self._counters, self._masks, self._trackers, self._transforms, self._listeners
        for owned in known:
            owned.pop(owner, None)
        self._rebuild()

    def remove(self):
        """Take everything away; the model is as it was before."""
        self._counters, self._masks, self._trackers = {}, {}, {}
        self._transforms, self._listeners = {}, {}
        self._rebuild()

    @contextlib.contextmanager
    def observing(self):
        """Count every forward pass inside the block, as a training step would."""
        self._training = True
        try:
            yield
        finally:
            self._training = False

    # -- hooks -----------------------------------------------------------------------------

    def _rebuild(self):
        """Bring the hooks in line with what is asked for, and have the step traced anew."""
        self._unhook()
        self._masking = self._masking and bool(self._masks)
        if self.owners:
            self._hook()
            keras_private.override(self.model, _PLACE, self)
        else:
            keras_private.restore(self.model, _PLACE, None)
        keras_private.retrace(self.model)

    def _hook(self):
        model = self.model
        counted = {}
        for counters in self._counters.values():
            for source, counter in counters.items():
                counted.setdefault(source.layer, []).append(counter)
                self._keep(source.layer, sums=counter.sums)
        for layer, counters in counted.items():
            self._override(layer, "call", functools.partial(self._call, layer.call, counters))
        for masks in self._masks.values():
            for site, mask in masks.values():
                self._keep(site.layer, mask=mask)
        for trackers in self._trackers.values():
            for site, tracker in trackers.values():
                self._keep(site.layer, **tracker.variables)
        self._override(model, "train_step", functools.partial(self._step, model.train_step))
        if self._masks or self._trackers or self._transforms:
            for optimizer in keras_private.optimizers(model):
                hooked = functools.partial(self._apply, optimizer.apply, optimizer)
                self._override(optimizer, "apply", hooked)
        for optimizer in keras_private.outer_optimizers(model) if self._trackers else ():
            if keras_private.steps_are_stateless():
                hooked = functools.partial(self._stateless, optimizer.stateless_apply, optimizer)
                self._override(optimizer, "stateless_apply", hooked)
            elif optimizer not in keras_private.optimizers(
                model
            ):  # it may skip the step: loss scaling
                hooked = functools.partial(self._outer_apply, optimizer.apply, optimizer)
                self._override(optimizer, "apply", hooked)

    def _unhook(self):
        for owner, name, original in reversed(self._overridden):
            keras_private.restore(owner, name, original)
        for layer, state in self._states:
            keras_private.remove_state(layer, state)
        self._overridden, self._states = [], []

    def _keep(self, layer, **variables):
        state = _State(**variables)
        keras_private.add_state(layer, state)
        self._states.append((layer, state))

    def _override(self, owner, name, function):
        self._overridden.append((owner, name, vars(owner).get(name)))
        keras_private.override(owner, name, function)

    # -- what runs inside a step -----------------------------------------------------------

    def _step(self, original, *args, **kwargs):
        self._training = True  # predict and evaluate, even within callbacks, count nothing
        self._traced, self._seen = keras_private.training_state(self.model, args), set()
        try:
            result = original(*args, **kwargs)
            if not self._trackers:
                return result
            self._check_seen()
            if self._traced:
                found = {id(variable): self._traced[id(variable)] for variable in self._tracked()}
                result = keras_private.replace_state(self.model, result, found)
            return result
        finally:
            self._training, self._traced = False, {}

    def _call(self, original, counters, *args, **kwargs):
        outputs = original(*args, **kwargs)
        if self._training:
            for counter in counters:
                counter.update(outputs)
        return outputs

    def _stateless(self, original, optimizer, optimizer_variables, grads, trainable_variables):
        # JAX: here the gradients pass by under no condition, unlike in `apply`; what is made of
        # them is kept until the step is over and then put into the state that it returns.
        found, used = keras_private.unscaled(optimizer, optimizer_variables, grads)
        tracked = [(variable, self._traced[id(variable)]) for variable in self._tracked()]
        with keras.StatelessScope(tracked) as scope:
            variables = keras_private.optimizer_variables(optimizer)
            self._watch(optimizer, variables, found, trainable_variables, used)
        self._traced |= {id(v): scope.get_current_value(v) for v, _ in tracked}
        return original(optimizer_variables, grads, trainable_variables)

    def _watch(self, optimizer, variables, grads, values, used=True):
        """Show the gradients to the trackers; `used`: whether the optimizer makes use of them."""
        scale = optimizer.loss_scale_factor or 1.0  # `apply` divides by it only later
        self._note(variables, grads)
        for variable, gradient, value in zip(variables, grads, values, strict=True):
            found = [owned.get(id(variable)) for owned in self._trackers.values()]
            for _, tracker in (pair for pair in found if pair and gradient is not None):
                tracker.update(keras_private.dense(gradient) / scale, value, used)

    def _outer_apply(self, original, optimizer, grads, trainable_variables=None):
        known = trainable_variables or keras_private.optimizer_variables(optimizer)
        known, grads = list(known), list(grads)
        self._note(known, grads)
        return original(grads, trainable_variables)

    def _note(self, variables, grads):
        pairs = zip(variables, grads, strict=True)
        self._seen |= {id(variable) for variable, gradient in pairs if gradient is not None}

    def _tracked(self):
        owned = [pair for trackers in self._trackers.values() for pair in trackers.values()]
        return [variable for _, tracker in owned for variable in tracker.variables.values()]

    def _check_seen(self):
        owned = [item for trackers in self._trackers.values() for item in trackers.items()]
        unseen = sorted({site.path for key, (site, _) in owned if key not in self._seen})
        if unseen:
            raise ValueError(
                f"no gradient of {unseen} reached the optimizer in a training step: the loss does "
                "not depend on these layers, or train_step does not hand their gradients to apply "
                "(on JAX: stateless_apply) of the model's optimizer. Leave them out by exclude=."
            )

    def _apply(self, original, optimizer, grads, trainable_variables=None):
        if not (self._masking or self._trackers or self._transforms):
            return original(grads, trainable_variables)
        variables = trainable_variables
        if variables is None:
            variables = keras_private.optimizer_variables(optimizer)
        variables, grads = list(variables), list(grads)
        if self._trackers and not self._traced:
            self._watch(optimizer, variables, grads, variables)
        grads = self._transformed(variables, grads)
        if not self._masking:
            return original(grads, trainable_variables)
        masks = [self._mask_of(variable) for variable in variables]
        for index, (gradient, mask) in enumerate(zip(grads, masks, strict=True)):
            if gradient is not None and mask is not None:
                grads[index] = keras_private.masked(gradient, mask)
        result = original(grads, trainable_variables)
        for variable, mask in zip(variables, masks, strict=True):
            if mask is not None and not _keeps_zeros(optimizer, variable):
                zeros = ops.zeros_like(variable.value)
                variable.assign(ops.where(mask > 0, variable.value, zeros))  # even over NaN
        return result

    def _transformed(self, variables, grads):
        """The gradients as the owners of transforms want them."""
        for functions in self._transforms.values():
            for index, variable in enumerate(variables):
                if id(variable) in functions and grads[index] is not None:
                    grads[index] = functions[id(variable)](grads[index])
        return grads

    def _mask_of(self, variable):
        found = [masks[id(variable)][1] for masks in self._masks.values() if id(variable) in masks]
        if not found:
            return None
        # While JAX traces, `mask.value` itself must not be touched: Keras has emptied it.
        values = [self._traced[id(mask)] if self._traced else mask.value for mask in found]
        return functools.reduce(ops.multiply, values)


def attachment(model):
    """The `Attachment` of `model`, made when there is none."""
    return vars(model).get(_PLACE) or Attachment(model)


def detach(model):
    """Remove every hook that this package left on `model`, as after a `fit` that died.

    Weights are not touched: pruned weights are zeros already. Calling it twice is fine.

    Example:

    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> ap.detach(model)
    """
    attachment(model).remove()


def assign_mask(site, mask, kept=None, values=None):
    """Set the pruned weights of a live site to zero, and its wrapper's mask where there is one.

    With `kept` all weights but those become zeros, whether alive by `mask` or not. The others
    become `values`, or stay as they are.
    """
    values = ops.convert_to_numpy(site.variable) if values is None else values
    values = np.where(mask if kept is None else kept, values, np.zeros((), values.dtype))
    site.variable.assign(ops.cast(values, site.variable.dtype))
    if site.mask_variable is not None:
        site.mask_variable.assign(mask)


def _keeps_zeros(optimizer, variable):
    """Whether a zero weight with a zero gradient and zero slots stays zero by itself.

    True for the update rules of Keras that work entry by entry. Everything else (Muon mixes the
    entries of a matrix, optimizers of users' own, constraints of users' own) is masked again
    after each update, a further pass over the weights.
    """
    constraint = variable.constraint
    return type(optimizer) in _ENTRYWISE and (constraint is None or type(constraint) in _SCALING)


def _mask_variable(variable):
    ones, placed = np.ones(variable.shape, "float32"), keras_private.placement(variable)
    return keras.Variable(ones, trainable=False, dtype=variable.dtype, autocast=False, **placed)


def _clear_slots(optimizer, variable, mask):
    if any(known is variable for known in keras_private.optimizer_variables(optimizer)):
        for slot in keras_private.slots(optimizer, variable):
            values = ops.convert_to_numpy(slot)
            slot.assign(np.where(mask, values, np.zeros((), values.dtype)))
