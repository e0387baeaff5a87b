"""The only walker over a model's layers: finds its sites, and those that names stand for."""

import fnmatch
from collections.abc import Iterable

import keras

from activation_pruning import keras_private
from activation_pruning.sites import active_outputs, kernels, layer_classes
from activation_pruning.sites.models import check_model, operations
from activation_pruning.sites.site import Found, LiveSite, LiveSites
from activation_pruning.support.names import did_you_mean
from activation_pruning.support.types import Layers, Model

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
        outer = (*outer, layer) if multiplies or isinstance(layer, layer_classes.WRAPPERS) else ()
        for child in children:
            inner = path if multiplies else f"{path}/{child.name}".lstrip("/")
            self.visit(child, inner, operations(layer) or graph, outer, wrapper)

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
                # Units that never show are seen in those that do.
                shown = kernel if kernel.observed else described[-1]
                self.sites.append(
                    LiveSite(
                        name=self._unique(f"{path}/{kernel.attribute.split('.')[-1]}"),
                        path=path,
                        layer=layer,
                        variable=variable,
                        units=kernel.unit_index(variable.shape),
                        input_axis=kernel.input_axis,
                        source=active_outputs.find(layer, shown, graph, outer),
                        observed=kernel.observed,
                        wrapper=wrapper,
                    )
                )

    def _note_unknown(self, layer, path, children):
        parts = () if isinstance(layer, _L.RNN) else children
        inside = {id(variable) for child in parts for variable in child.weights}
        own = [w for w in layer.trainable_weights if len(w.shape) > 1 and id(w) not in inside]
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


def find(model: Model, include: Layers = None, exclude: Layers = None) -> Found:
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
    if include is not None and chosen:
        chosen = matching("include", include, walk.sites)
    if exclude is None and include is None:
        left_out = _outputs(model, walk.sites)
        walk.skipped.extend((site.path, "output layer (excluded by default)") for site in left_out)
    else:
        left_out = matching("exclude", exclude or (), walk.sites)
        walk.skipped.extend((site.path, "excluded") for site in left_out)
    chosen = [site for site in walk.sites if site in chosen and site not in left_out]
    if not chosen:
        raise ValueError(_nothing_left(walk))
    return Found(chosen, list(dict.fromkeys(walk.skipped)))


def _nothing_left(walk):
    listed = "; ".join(f"{path}: {reason}" for path, reason in walk.skipped) or "no layers"
    return (
        f"model has no prunable layers left ({listed}). Use include=... or exclude=() to prune "
        "the output layer too, or sites.register for your own layer classes."
    )


def matching(argument: str, wanted: Layers, sites: LiveSites) -> LiveSites:
    """Those of `sites` that any name, pattern or layer in `wanted` stands for.

    Raises:
        ValueError: for an entry of `argument` that matches none; it lists those there are.

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"),
        ...                           keras.layers.Dense(2, name="output")])
        >>> found = sites.find(model, exclude=()).sites
        >>> [site.name for site in sites.matching("include", ["hid*"], found)]
        ['hidden/kernel']
    """
    wanted = () if wanted is None else wanted
    one = isinstance(wanted, (str, keras.Layer)) or not isinstance(wanted, Iterable)
    wanted = [wanted] if one else list(wanted)
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
        raise TypeError(
            f"{argument} takes names, patterns or layers, such as ['dense', 'conv*'], received "
            f"{item!r}"
        )
    parts = site.path.split("/")
    prefixes = {"/".join(parts[: end + 1]) for end in range(len(parts))}
    return any(fnmatch.fnmatch(name, item) for name in prefixes | {site.layer.name, site.name})


def _outputs(model, sites):
    """The sites of the layers that produce the model's outputs.

    Walks back from the outputs of a graph. A subclassed model has no graph to follow: its last
    site in tracking order is taken.
    """
    if not operations(model):
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
            frontier.extend(keras_private.producers(operation, operations(model)))
        elif isinstance(operation, keras.Model):
            found.extend(_outputs(operation, inside))
        elif isinstance(operation, _L.Bidirectional):
            found.extend(inside)
        else:
            found.extend(site for site in inside if site.layer is inside[-1].layer)
    return found
