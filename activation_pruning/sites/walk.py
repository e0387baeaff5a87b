"""The only walker over a model: finds its prunable sites and what counts as their activation."""

import dataclasses
import fnmatch
from collections.abc import Mapping

import keras
import numpy as np

from activation_pruning import keras_private
from activation_pruning.sites import active_outputs, kernels
from activation_pruning.sites.active_outputs import Source
from activation_pruning.sites.kernels import Kernel, register
from activation_pruning.support.names import did_you_mean

__all__ = ["Activity", "Found", "Kernel", "LiveSite", "Site", "Source", "find", "register"]


@dataclasses.dataclass(frozen=True)
class Activity:
    """What was counted for the units of one site (arrays of shape (units,), float64).

    A statistic that was not counted is None.
    """

    samples: int
    frequency: np.ndarray | None = None
    mean: np.ndarray | None = None
    rms: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Site:
    """One prunable weight tensor as criteria see it: plain arrays, no framework.

    `units` holds the unit index of each weight and broadcasts to `kernel.shape`;
    `mask` is True where a weight is alive; N:M groups run along `input_axis`. `statistics` holds
    by name what else the criterion needs, see `gathering.STATISTICS`. `channels` numbers the
    channel of each unit where units of several sites can only go together, see `coupled_sites`.
    """

    name: str
    layer: str
    kernel: np.ndarray
    mask: np.ndarray
    units: np.ndarray
    input_axis: int = 0
    activity: Activity | None = None
    seed: int = 0
    statistics: Mapping = dataclasses.field(default_factory=dict)
    channels: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class LiveSite:
    """A site in a live model: the variable behind it and where its activity is seen."""

    name: str
    path: str
    layer: keras.Layer
    variable: keras.Variable
    units: np.ndarray
    input_axis: int
    source: Source
    observed: bool = True
    wrapper: keras.Layer | None = None  # a `KernelWrapper`, where one multiplies the variable

    @property
    def mask_variable(self):
        """The mask that a `PrunedLayer` keeps of it, or None."""
        return None if self.wrapper is None else self.wrapper.mask_of(self.variable)

    @property
    def n_units(self):
        return int(self.units.max()) + 1

    def units_alive(self, mask):
        """Which units have a weight alive by `mask`: bool array of shape (units,)."""
        constant = tuple(axis for axis, size in enumerate(self.units.shape) if size == 1)
        alive = mask.any(axis=constant, keepdims=True)
        return np.bincount(self.units.ravel(), weights=alive.ravel(), minlength=self.n_units) > 0

    def kernel(self):
        """The weights that act now, as a NumPy array (bfloat16 is widened to float32).

        Where a wrapper's mask or gate is 0 these are zeros, whatever momentum made of the variable.
        """
        values = keras.ops.convert_to_numpy(self.variable)
        if self.wrapper is not None:
            factor = keras.ops.convert_to_numpy(self.wrapper.factor_of(self.variable))
            factor = np.broadcast_to(factor.astype(values.dtype), values.shape)
            values = np.multiply(values, factor, out=np.zeros_like(values), where=factor != 0)
        return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)

    def snapshot(self, mask=None, activity=None, seed=0, statistics=None):
        """The `Site` that criteria see now; without `mask`, exact zeros count as pruned."""
        kernel = self.kernel()
        mask = kernel != 0 if mask is None else mask
        plain = self.name, self.path, kernel, mask, self.units, self.input_axis
        return Site(*plain, activity, seed, statistics or {})


@dataclasses.dataclass(frozen=True)
class Found:
    """The walk's result: the sites in model order, and [(layer, reason)] for what was left out."""

    sites: list[LiveSite]
    skipped: list[tuple[str, str]]


_L = keras.layers


class _Walk:
    """One pass over a model; keeps what was found and what was left out."""

    def __init__(self):
        self.sites, self.skipped, self._seen, self._names = [], [], set(), set()

    def visit(self, layer, path, graph=frozenset(), outer=(), wrapper=None):
        """Collect the sites of `layer` and of everything inside it.

        `graph` is the innermost graph around it, `outer` the wrappers that stand for it there,
        `wrapper` the one that multiplies its kernels.
        """
        if id(layer) in self._seen:
            return  # shared layers are found once
        self._seen.add(id(layer))
        described = kernels.of(layer)
        if described is not None:
            self._add(layer, path, described, graph, outer, wrapper)
            return
        children = keras_private.sublayers(layer)
        self._note_unknown(layer, path, children)
        if isinstance(layer, _L.RNN):
            return  # a cell of another kind: listed above, never called on its own
        multiplies = _multiplies(layer)
        wrapper = layer if multiplies else wrapper
        outer = (*outer, layer) if multiplies or isinstance(layer, active_outputs.WRAPPERS) else ()
        for child in children:
            inner = path if multiplies else f"{path}/{child.name}".lstrip("/")
            self.visit(child, inner, active_outputs.graph(layer) or graph, outer, wrapper)

    def _add(self, layer, path, described, graph, outer, wrapper):
        reason = _refusal(layer)
        if reason:
            self.skipped.append((path, reason))
            return
        for kernel in described:
            variable = kernel.variable(layer)
            if variable is None:
                self.skipped.append((path, f"`{kernel.attribute}` is not a plain variable"))
            elif id(variable) not in self._seen:
                self._seen.add(id(variable))
                name = self._unique(f"{path}/{kernel.attribute.split('.')[-1]}")
                self.sites.append(
                    LiveSite(
                        name,
                        path,
                        layer,
                        variable,
                        kernel.unit_index(variable.shape),
                        kernel.input_axis,
                        # units that never show are seen in those that do
                        active_outputs.find(
                            layer, kernel if kernel.observed else described[-1], graph, outer
                        ),
                        kernel.observed,
                        wrapper,
                    )
                )

    def _note_unknown(self, layer, path, children):
        inside = {id(variable) for child in children for variable in child.weights}
        own = [w for w in layer.trainable_weights if len(w.shape) > 1 and id(w) not in inside]
        if isinstance(layer, _L.RNN):
            own = [w for w in layer.trainable_weights if len(w.shape) > 1]
        if own and not _multiplies(layer):
            kind = type(layer).__name__
            self.skipped.append((path, f"no site registered for {kind}; see sites.register"))

    def _unique(self, name):
        fresh, number = name, 1
        while fresh in self._names:
            number += 1
            fresh = f"{name}_{number}"
        self._names.add(fresh)
        return fresh


def _multiplies(layer):
    """Whether `layer` is a `KernelWrapper`, which is made on a floor above this one."""
    return hasattr(layer, "factor_of")


def _refusal(layer):
    """Why the weights of `layer` cannot be pruned as they are, or None."""
    if getattr(layer, "lora_enabled", False):
        return "LoRA is enabled: the kernel is a sum; merge it (save and reload) before pruning"
    mode = getattr(layer, "quantization_mode", None)
    if mode:
        return f"quantised to {mode}: prune the float model first, then quantise"
    if not layer.built:
        return "not built: call the model on data once"
    return None


def find(model, include=None, exclude=None):
    """Find the prunable sites of a built Keras 3 model.

    Args:
        model: a built `keras.Model` (Sequential, Functional, nested or subclassed) or layer.
        include: names, patterns (`"conv*"`) or layers to take; None takes all.
        exclude: names, patterns or layers to leave out; None leaves out the output layers
            (unless `include` is given), `()` leaves out nothing.

    Returns:
        `Found`, with the sites in model order and the skipped layers with their reasons.

    Raises:
        TypeError: for something that is not a Keras 3 model.
        ValueError: for an unbuilt model, an unknown name, or when no site is left.

    Example:

    >>> import keras
    >>> from activation_pruning import sites
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"),
    ...                           keras.layers.Dense(2, name="output")])
    >>> [site.name for site in sites.find(model).sites]
    ['hidden/kernel']
    """
    check_model(model)
    walk = _Walk()
    walk.visit(model, "" if isinstance(model, keras.Model) else model.name)
    chosen = walk.sites
    if include is not None:
        chosen = [site for site in chosen if site in matching("include", include, walk.sites)]
    if exclude is None and include is None:
        left_out = _outputs(model, walk.sites)
        walk.skipped.extend((site.path, "output layer (excluded by default)") for site in left_out)
    else:
        left_out = matching("exclude", exclude or (), walk.sites)
        walk.skipped.extend((site.path, "excluded") for site in left_out)
    chosen = [site for site in chosen if site not in left_out]
    if not chosen:
        raise ValueError(_nothing_left(walk))
    return Found(chosen, list(dict.fromkeys(walk.skipped)))


def is_graph(model):
    """Whether `model` is a Sequential or Functional model, whose layers form a known graph."""
    return bool(active_outputs.graph(model))


def check_model(model):
    """Raise unless `model` is a built Keras 3 model (or layer)."""
    if not isinstance(model, keras.Layer):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        if "tf_keras" in kind or "keras.src.engine" in kind:
            raise TypeError(
                f"model is a legacy tf_keras model ({kind}); this package prunes Keras 3 models. "
                "ap.from_tfmot(model) makes a Keras 3 copy of a Sequential or Functional one; "
                "rebuild any other with `keras` and copy its weights: "
                "new_model.set_weights(old_model.get_weights())."
            )
        raise TypeError(f"model must be a keras.Model, received {kind}")
    if not model.built:
        raise ValueError(
            f"model {model.name!r} is not built, so it has no weights yet. Give it an Input "
            "layer, call model.build(input_shape), or call it on a batch of data."
        )


def _nothing_left(walk):
    listed = "; ".join(f"{path}: {reason}" for path, reason in walk.skipped) or "no layers"
    return (
        f"model has no prunable layers left ({listed}). Use include=... or exclude=() to prune "
        "the output layer too, or sites.register for your own layer classes."
    )


def matching(argument, wanted, sites):
    """The sites that any of `wanted` names; each entry must name at least one.

    Args:
        argument: its name, for messages.
        wanted: names, patterns (`"conv*"`) or layers, or a single one.
        sites: live sites to choose from.

    Raises:
        ValueError: for a name that matches none; it lists those there are.
    """
    wanted = [wanted] if isinstance(wanted, (str, keras.Layer)) else list(wanted)
    matched = []
    for item in wanted:
        hits = [site for site in sites if _names(argument, item, site)]
        if not hits:
            names = sorted({site.path for site in sites})
            text = item if isinstance(item, str) else item.name
            hint = did_you_mean(text, names, opening=" Did")
            raise ValueError(
                f"{argument}={text!r} matches no prunable layer.{hint} Prunable layers: {names}"
            )
        matched.extend(hits)
    return matched


def _names(argument, item, site):
    if isinstance(item, keras.Layer):
        return any(w is site.variable for w in item.weights)
    if not isinstance(item, str):
        raise TypeError(f"{argument} takes names, patterns or layers, received {item!r}")
    parts = site.path.split("/")
    prefixes = {"/".join(parts[: end + 1]) for end in range(len(parts))}
    return any(fnmatch.fnmatch(name, item) for name in prefixes | {site.layer.name, site.name})


def _outputs(model, sites):
    """The sites of the layers that produce the model's outputs.

    Walks back from the outputs of a graph. A subclassed model has no graph to follow: its last
    site in tracking order is taken.
    """
    if not active_outputs.graph(model):
        return [site for site in sites if sites and site.layer is sites[-1].layer]
    found, frontier, seen = [], list(keras_private.output_operations(model)), set()
    while frontier:
        operation = frontier.pop()
        if id(operation) in seen:
            continue
        seen.add(id(operation))
        inside = []
        if isinstance(operation, keras.Layer):
            weights = {id(variable) for variable in operation.weights}
            inside = [site for site in sites if id(site.variable) in weights]
        if not inside:
            frontier.extend(keras_private.producers(operation, active_outputs.graph(model)))
        elif isinstance(operation, keras.Model):
            found.extend(_outputs(operation, inside))
        elif isinstance(operation, _L.Bidirectional):
            found.extend(inside)
        else:
            found.extend(site for site in inside if site.layer is inside[-1].layer)
    return found
