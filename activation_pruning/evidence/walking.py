"""What flows into one layer after the other, while those before are being changed."""

import dataclasses
import itertools
import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras

from activation_pruning import keras_private, sites
from activation_pruning.evidence import batches, inputs, probes
from activation_pruning.evidence.gathering import Gathered
from activation_pruning.evidence.states import States
from activation_pruning.graph import inlining
from activation_pruning.keras_private import nodes
from activation_pruning.sites import LiveSite, LiveSites, padding
from activation_pruning.sites.models import multiplies
from activation_pruning.support.types import Data, Model

ROOM = 1 << 30  # bytes of states that lie in memory
_WIDEST = 1 << 22  # numbers in a tensor of one batch, where its size is ours: 16 MiB of float32
KNOWN = frozenset({inputs.NORM, inputs.HESSIAN})  # what can be gathered on the way


class _Seen(BaseException):
    """The last inputs that were asked for were seen: the call need not go on.

    Not an `Exception`: Keras would write something else into that.
    """


@dataclasses.dataclass(frozen=True, eq=False)
class _Step:
    """One call of a layer or operation; tensors by the ids of the symbolic ones."""

    node: Any
    operation: Any
    takes: frozenset[int]
    gives: frozenset[int]
    inside: dict[int, keras.Layer]  # the layer and those inside it, by id

    def run(self, known: dict[int, Any]) -> None:
        known |= nodes.run(self.node, known, self.operation)

    def uses(self, site: LiveSite) -> bool:
        return any(site.variable is one for one in getattr(self.operation, "weights", ()))

    def calls_once(self, place: keras.Layer) -> bool:
        """Whether a layer inside is sure to be called once, on inputs that change no more."""
        own = self.operation.layer if multiplies(self.operation) else self.operation
        plain = [kind.call for kind in padding.ATTENTION]
        return own is place or getattr(type(own), "call", None) in plain


def walk(
    model: Model, live_sites: LiveSites, data: Data, needs: Collection[str], room: int = ROOM
) -> Iterator[tuple[LiveSite, Gathered]] | None:
    """Go through a model once, and stop at each site with what is known of its inputs.

    Whoever takes a site may change its weights before asking for the next one: what comes behind
    sees what has become of it. Each layer before the last site is called once for each batch, and
    only the tensors that calls to come still take are kept. Where a layer is called several times,
    what lies between its calls is run once more; so is what attention does with its projections.

    Args: see `statistic`.
        needs: some of `KNOWN`.
        room: how many bytes of tensors may lie in memory; the others go into temporary files.

    Returns an iterator, in the order of the calls; None where the graph is not known, does not
    show each of the sites, or does not fit all of the data.
    Raises ValueError as `inputs.gather`.

    Example:
        >>> import numpy as np
        >>> layers = [keras.layers.Dense(2, name="a"), keras.layers.Dense(1, name="b")]
        >>> model = keras.Sequential([keras.Input((2,)), *layers])
        >>> live = sites.find(model, exclude=()).sites
        >>> for site, found in walk(model, live, np.ones((4, 2)), ["input_norm"]):
        ...     print(site.name, found.statistics["input_norm"].ravel().tolist())
        ...     _ = site.variable.assign(np.ones(site.variable.shape))
        a/kernel [2.0, 2.0, 2.0, 2.0]
        b/kernel [4.0, 4.0]
    """
    inputs.check_linear(live_sites)
    own = {} if sites.is_graph(model) else _first(model, data)
    found = inlining.flat(model, **own)
    if found is None:
        return None
    steps = _steps(*found)
    calls = {site.name: _calls(steps, site) for site in live_sites}
    if not all(calls.values()) or not _alike(model, data, own):
        return None
    return _Walk(model, found[0], steps, live_sites, calls).along(data, needs, room)


class _Walk:
    """The way through one graph: its steps that lead to sites, and where these are."""

    def __init__(self, model, graph, steps, live_sites, calls):
        self.model, self.graph = model, graph
        kept = _leading(steps, itertools.chain(*calls.values()))
        self.steps = [steps[i] for i in kept]
        self.last_use = {key: i for i, step in enumerate(self.steps) for key in step.takes}
        self.calls, self.first = {}, {}
        for site in live_sites:
            self.calls[site] = _calls(self.steps, site)
            # Where other layers use its weights before, these must be those of before, too.
            uses = (i for i, step in enumerate(self.steps) if step.uses(site))
            self.first[site] = min([*uses, *self.calls[site]])
        self.order = sorted(live_sites, key=self.first.__getitem__)

    def along(self, data, needs, room):
        with tempfile.TemporaryDirectory() as folder:
            self.states, here = States(Path(folder), room), 0
            self.fillings = list(self._read(data))
            for site in self.order:
                moments = inputs.Moments([site], needs)
                with batches.ready(self.model):
                    for batch in range(len(self.fillings)):
                        self._look(site, batch, self._advanced(batch, here, site), moments)
                here, found = self.first[site], moments.found()[site.name]
                del moments  # a Hessian at a time
                yield site, Gathered(None, found)
                del found

    def _read(self, data):
        size = min(inputs.batch_size_of(self.model), max(_WIDEST // self._widest(data), 1))
        for number, (x, samples) in enumerate(batches.to_run(data, size, self.model)):
            given = nodes.given(self.graph, x)
            self.states.save(number, {k: v for k, v in given.items() if k in self.last_use})
            yield padding.Filling(samples, batches.length(x))

    def _widest(self, data):
        """How many numbers of one sample there are in its largest tensor, as far as is known."""
        x = next(batches.inputs_of(data, 1, self.model))
        sizes = [size for one in keras.tree.flatten(x) for size in one.shape[1:]]
        open_size = max(sizes, default=1)
        tensors = [one for step in self.steps for one in step.node.outputs]
        shapes = ([size or open_size for size in one.shape[1:]] for one in tensors)
        return max(map(math.prod, shapes))

    def _advanced(self, batch, start, site):
        """The tensors of a batch before a site, made of those before step `start`; these go."""
        known, end = self.states.load(batch), self.first[site]
        for i in range(start, end):
            step = self.steps[i]
            with keras_private.overridden(_again(step, known)):
                step.run(known)
            for key in [*step.takes, *step.gives]:
                if self.last_use.get(key, -1) <= i:
                    known.pop(key, None)
            for key in step.inside:
                known.pop(key, None)
        if end > start:
            self.states.save(batch, known)
        return known

    def _look(self, site, batch, known, moments):
        """See what a batch makes of the inputs of a site; nothing of it is kept."""
        place, calls, first = inputs.place(site), self.calls[site], self.first[site]
        filling, last, ends = self.fillings[batch], calls[-1], False

        def pass_by(at, values, mask):
            array = keras.ops.convert_to_numpy(values)
            mask = None if mask is None else keras.ops.convert_to_numpy(mask)
            moments.update(at, array, filling.hidden(place, len(array), mask))
            if ends:
                raise _Seen
            return values

        fresh: dict[int, Any] = {}
        known, held = dict(known), self._held(site)
        shadows = [*_again(self.steps[last], known), *_noted(held, known, fresh)]
        with keras_private.overridden(shadows), probes.passing(moments.places, pass_by):
            for i in _leading(self.steps, calls, first):
                ends = i == last and self.steps[i].calls_once(place)
                try:
                    self.steps[i].run(known)
                except _Seen:
                    break
        self.states.add(batch, fresh)

    def _held(self, site):
        """The projections of an attention layer that were done before this one, if it goes on."""
        calls, before = self.calls[site], self.order[: self.order.index(site)]
        step = self.steps[calls[-1]]
        if len(calls) > 1 or not step.calls_once(inputs.place(site)):
            return []
        return [one.layer for one in before if self.calls[one] == calls]


def _steps(graph, originals):
    """The calls of a graph, by the layers of the model itself; none where tensors are sparse."""
    found = []
    for node in nodes.in_order(graph):
        tensors = [*nodes.taken(node), *node.outputs]
        if any(one.sparse for one in tensors):
            return []
        own = originals.get(id(node.operation), node.operation)
        layers = keras_private.with_sublayers(own) if isinstance(own, keras.Layer) else []
        takes, gives = (frozenset(map(id, these)) for these in (nodes.taken(node), node.outputs))
        found.append(_Step(node, own, takes, gives, {id(one): one for one in layers}))
    return found


def _calls(steps, site):
    """The steps that call the layer whose inputs a site has."""
    place = id(inputs.place(site))
    return [i for i, step in enumerate(steps) if place in step.inside]


def _leading(steps: list[_Step], wanted: Iterable[int], start: int = 0) -> list[int]:
    """The steps, from `start` on, without which those that are wanted could not be run."""
    found: set[int] = set(wanted)
    tensors: set[int] = set()
    for i in reversed(range(start, len(steps))):
        if i in found or steps[i].gives & tensors:
            found.add(i)
            tensors |= steps[i].takes
    return sorted(found)


def _again(step: _Step, known: dict[int, Any]) -> Iterator[tuple[keras.Layer, str, Any]]:
    """Shadows of layers inside a step, for `overridden`: they give what they have given before."""
    for key in step.inside.keys() & known.keys():
        yield step.inside[key], "call", _giving(known[key])


def _giving(value: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: value


def _noted(layers, known, fresh):
    """Shadows of layers whose outputs are kept, in `fresh`, where they are not known yet."""

    def noting(layer, call):
        def wrapped(*args, **kwargs):
            fresh[id(layer)] = call(*args, **kwargs)
            return fresh[id(layer)]

        return wrapped

    for layer in layers:
        if id(layer) not in known:
            yield layer, "call", noting(layer, layer.call)


def _first(model, data):
    """What a model without a known graph takes: symbolic inputs like the first batch of data."""
    x = next(batches.inputs_of(data, 1, model))
    return {"inputs": keras.tree.map_structure(_symbol, x)}


def _symbol(leaf):
    dtype = keras.backend.standardize_dtype(leaf.dtype)
    dtype = keras.config.floatx() if "float" in dtype else dtype
    return keras.Input(tuple(leaf.shape[1:]), dtype=dtype)


def _alike(model, data, own):
    """Whether each batch has the shape that a graph was made for."""
    if not own:
        return True
    shapes = [one.shape[1:] for one in keras.tree.flatten(own["inputs"])]
    found = batches.inputs_of(data, inputs.batch_size_of(model), model)
    return all([tuple(a.shape[1:]) for a in keras.tree.flatten(x)] == shapes for x in found)
