"""What hangs on a plain compiled model while `fit` runs, and for whom.

Counting shadows the `call` of the layer whose output is counted; tracking, transforms and masking
act where gradients reach the optimizer (`gradients`). All act inside training steps only.
"""

import contextlib
import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import keras
from keras import ops

from activation_pruning import keras_private
from activation_pruning.hooks import masking, remembered
from activation_pruning.hooks.counting import STATISTICS, Counter
from activation_pruning.hooks.gradients import Gradients, grouped
from activation_pruning.hooks.masking import Maskable
from activation_pruning.hooks.state import State
from activation_pruning.hooks.tracking import Tracker
from activation_pruning.sites import LiveSite, LiveSites, Source, learner, padding
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Arrays, Masks

Transform: TypeAlias = Callable[[Any], Any]  # gradient -> what the optimizer is given
_PLACE = "_activation_pruning"  # where a model keeps its Attachment while it has one


@dataclasses.dataclass
class _Asked:
    """What one owner has asked for; what is about kernels goes by id(variable)."""

    counters: dict[Source, Counter] = dataclasses.field(default_factory=dict)
    masks: dict[int, tuple[Maskable, keras.Variable]] = dataclasses.field(default_factory=dict)
    trackers: dict[int, tuple[LiveSite, Tracker]] = dataclasses.field(default_factory=dict)
    transforms: dict[int, Transform] = dataclasses.field(default_factory=dict)
    listener: Callable[[str, int], None] | None = None

    @property
    def hooked(self) -> bool:
        """Whether anything of it acts inside training steps."""
        return bool(self.counters or self.masks or self.trackers or self.transforms)

    def states(self) -> Iterator[tuple[keras.Layer, dict[str, keras.Variable]]]:
        """The variables that training steps have to carry along, and the layers to hold them."""
        yield from ((source.layer, {"sums": one.sums}) for source, one in self.counters.items())
        yield from ((site.layer, {"mask": mask}) for site, mask in self.masks.values())
        yield from ((site.layer, tracker.variables) for site, tracker in self.trackers.values())


class Attachment:
    """Everything of ours on one model. Callbacks add and release what they need by `owner`.

    On a Distiller it is that of its student, too: there the hooks on layers are.
    """

    def __init__(self, model: keras.Model):
        self._model = weakref.ref(model)
        self._places = list({weakref.ref(model), weakref.ref(learner(model))})
        self._asked: dict[Any, _Asked] = {}  # by owner
        self._undo = contextlib.ExitStack()  # of all hooks in place
        self._training = self._masking = False
        self._filling: padding.Filling | None = None

    @property
    def model(self) -> Any:
        return self._model()

    @property
    def owners(self) -> list[Any]:
        """Whoever has something here now."""
        return list(self._asked)

    # -- what callbacks ask for ------------------------------------------------------------

    def count(
        self,
        owner: Any,
        live_sites: LiveSites,
        threshold: float = 0.0,
        statistics: Iterable[str] = STATISTICS,
    ) -> dict[Source, Counter]:
        """Count for `live_sites` from now on; sites that share a source share a counter."""
        with keras_private.strategy_scope(self.model):
            sources = dict.fromkeys(site.source for site in live_sites)
            counters = {source: Counter(source, threshold, statistics) for source in sources}
        self._ask(owner, counters=counters)
        return counters

    def track(
        self, owner: Any, live_sites: LiveSites, statistics: Iterable[str]
    ) -> dict[str, Tracker]:
        """Follow the gradients of `live_sites` from now on: {site name: Tracker}.

        A training step from which no gradient arrives at all raises ValueError.
        """
        with keras_private.strategy_scope(self.model):
            made = [(site, Tracker(site.variable, statistics)) for site in live_sites]
        self._ask(owner, trackers={id(site.variable): (site, one) for site, one in made})
        return {site.name: tracker for site, tracker in made}

    def mask(self, owner: Any, live_sites: Iterable[Maskable]) -> None:
        """Keep what `set_masks` prunes at zero; no mask costs anything before the first one."""
        with keras_private.strategy_scope(self.model):
            masks = {id(s.variable): (s, masking.mask_variable(s.variable)) for s in live_sites}
        self._ask(owner, masks=masks)

    def leave_out(self, owner: Any, live_sites: Iterable[Maskable]) -> None:
        """Mask these sites no more; their weights stay as they are."""
        for site in live_sites:
            self._asked[owner].masks.pop(id(site.variable), None)

    def set_masks(
        self, owner: Any, live_sites: Iterable[Maskable], masks: Masks, values: Arrays | None = None
    ) -> None:
        """Write new masks: weights, optimizer slots and averages become exact zeros where pruned.

        They are zeros as well where a weight was pruned before and is alive now: it starts anew.
        `values` says what variables hold, of those sites that have been read already. Of an owner
        who has been released the weights are written only.
        """
        self.sync()
        remembered.remember(learner(self.model), live_sites, masks)
        asked, values = self._asked.get(owner), values or {}
        with keras_private.strategy_scope(self.model):
            if not (asked and self._masking) and all(mask.all() for mask in masks.values()):
                masking.keep_from_zero(live_sites, values)
                return
            optimizers = keras_private.optimizers(self.model)
            for site in live_sites:
                mask = kept = masks[site.name]
                if asked:
                    known = asked.masks[id(site.variable)][1]
                    kept = mask & (ops.convert_to_numpy(ops.cast(known, "float32")) > 0)
                    known.assign(mask)
                masking.assign_mask(site, mask, kept, values.get(site.name))
                for optimizer in optimizers:
                    masking.clear_slots(optimizer, site.variable, kept)
        if asked and not self._masking:
            self._masking = True
            self._rebuild()  # not a mere retrace: JAX would find the old step function in its cache

    def transform(
        self, owner: Any, live_sites: LiveSites, functions: Mapping[str, Transform]
    ) -> None:
        """Give the optimizer `functions[site.name](gradient)` for the gradient of each site."""
        self._ask(owner, transforms={id(s.variable): functions[s.name] for s in live_sites})

    def listen(self, owner: Any, function: Callable[[str, int], None]) -> None:
        """Call `function("before", epoch)` and `function("after", epoch)` around pruning events."""
        self._asked.setdefault(owner, _Asked()).listener = function
        self._place()  # nothing of it acts inside a step: the hooks stay as they are

    def masked(self, kind: type) -> list[Any]:
        """The live sites that owners of class `kind` mask, each once."""
        held = [asked.masks for owner, asked in self._asked.items() if isinstance(owner, kind)]
        return list({key: site for one in held for key, (site, _) in one.items()}.values())

    def shared(self, owner: Any) -> list[Maskable]:
        """The live sites of `owner` that others mask as well."""
        others = [asked.masks for other, asked in self._asked.items() if other is not owner]
        own = self._asked[owner].masks
        return [site for key, (site, _) in own.items() if any(key in masks for masks in others)]

    @contextlib.contextmanager
    def event(self, epoch: int) -> Iterator[None]:
        """Around a pruning event after so many epochs: listeners hear of its start and end."""
        listeners = [asked.listener for asked in self._asked.values() if asked.listener]
        for listener in listeners:
            listener("before", epoch)
        yield
        for listener in listeners:
            listener("after", epoch)

    def sync(self) -> None:
        """Bring the variables up to date in the middle of an epoch (JAX keeps them to itself)."""
        keras_private.sync(self.model)

    def release(self, owner: Any) -> None:
        """Take away what `owner` added."""
        if self._asked.pop(owner, _Asked()).hooked:
            self._rebuild()
        self._place()

    def release_abandoned(self) -> None:
        """Take away what belongs to a `fit` that died; its owners say so by `abandoned`."""
        for owner in self.owners:
            if getattr(owner, "abandoned", False):
                self.release(owner)

    def remove(self) -> None:
        """Take everything away; the model is as it was before."""
        self._asked.clear()
        self._rebuild()

    @contextlib.contextmanager
    def observing(self, filling: padding.Filling | None = None) -> Iterator[None]:
        """Count every forward pass inside the block, as in a training step, but for a filling."""
        self._training, self._filling = True, filling
        try:
            yield
        finally:
            self._training, self._filling = False, None

    # -- hooks -----------------------------------------------------------------------------

    def _ask(self, owner, **what):
        self._asked[owner] = dataclasses.replace(self._asked.get(owner, _Asked()), **what)
        self._rebuild()

    def _rebuild(self):
        """Bring the hooks in line with what is asked for, and have the step traced anew."""
        self._undo.close()
        asked = [one for one in self._asked.values() if one.hooked]
        self._masking = self._masking and any(one.masks for one in asked)
        if asked:
            self._hook(asked)
        self._place()
        keras_private.retrace(self.model)

    def _fitted(self):
        """The models whose fits begin here, those that still live."""
        return [one for place in self._places if (one := place()) is not None]

    def _place(self):
        for model in self._fitted():
            if self._asked:
                vars(model)[_PLACE] = self
            else:
                vars(model).pop(_PLACE, None)

    def _hook(self, asked):
        counted = grouped((source.layer, c) for one in asked for source, c in one.counters.items())
        for layer, counters in counted.items():
            self._override(layer, "call", self._call, counters)
        for layer in padding.attentions(learner(self.model)) if counted else ():
            self._override(layer, "call", padding.inside, layer)
        for layer, variables in (state for one in asked for state in one.states()):
            self._undo.callback(keras_private.add_state(layer, State(**variables)))
        masks = ((s.variable, mask) for one in asked for s, mask in one.masks.values())
        gradients = Gradients(
            tracked=(pair for one in asked for pair in one.trackers.values()),
            transforms=(pair for one in asked for pair in one.transforms.items()),
            masks=masks if self._masking else (),
            own_step=getattr(self.model.train_step, "__func__", None) is not keras.Model.train_step,
        )
        self._override(self.model, "train_step", self._step, gradients)
        for model in self._fitted():
            self._override(model, "make_train_function", self._begin)
        for optimizer, name, hook in gradients.hooks(self.model):
            self._override(optimizer, name, hook, optimizer)

    def _override(self, owner, name, hook, *about):
        shadow = functools.partial(hook, getattr(owner, name), *about)
        self._undo.callback(keras_private.override(owner, name, shadow))

    def _step(self, original, gradients, *args, **kwargs):
        with self.observing():  # predict and evaluate, even within callbacks, count nothing
            return gradients.step(self.model, original, *args, **kwargs)

    def _begin(self, original, *args, **kwargs):
        self.release_abandoned()  # each fit comes by here, also one without callbacks of ours
        return original(*args, **kwargs)

    def _call(self, original, counters, *args, **kwargs):
        outputs = original(*args, **kwargs)
        if self._training:
            for counter in counters:
                counter.see(args, kwargs, outputs, self._filling)
        return outputs


def attachment(model: keras.Model) -> Attachment:
    """The `Attachment` of `model`, made when there is none."""
    return vars(model).get(_PLACE) or Attachment(model)


def detach(model: keras.Model) -> None:
    """Remove every hook that this package left on `model`, as after a `fit` that died.

    Weights are not touched: pruned ones are zeros already. Calling it twice is fine.

    Example:
    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> ap.detach(model)
    """
    if not isinstance(model, keras.Model):
        kind = type(model).__name__
        raise TypeError(f"model must be a keras.Model, received {shown(model)} ({kind})")
    attachment(model).remove()
