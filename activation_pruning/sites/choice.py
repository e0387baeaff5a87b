"""Which of a model's sites are meant: by name, pattern or layer, and by default."""

from collections.abc import Iterable
from typing import Any

import keras

from activation_pruning import keras_private
from activation_pruning.sites.models import check_model, operations
from activation_pruning.sites.site import Found, LiveSites, nothing_left
from activation_pruning.sites.walk import walked
from activation_pruning.support.names import did_you_mean, picked, shortened
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Layers, Model

_L = keras.layers
_OUTPUT = "output layer (excluded by default)"
_FROZEN = "frozen, trainable=False (excluded by default)"


def find(model: Model, include: Layers = None, exclude: Layers = None) -> Found:
    """Find the prunable sites of a built Keras 3 model.

    The output layers and whatever is frozen are left out by default: include= takes them.

    Args:
        model: a built `keras.Model` (Sequential, Functional, nested or subclassed) or layer.
        include: names, patterns (`"conv*"`) or layers to take, and no others; None takes all but
            what is left out by default.
        exclude: names, patterns or layers to leave out besides; `()` leaves out nothing, not even
            what is left out by default.

    Returns:
        `Found`, with the sites in model order and the skipped layers with their reasons.

    Raises:
        TypeError: for something that is not a Keras 3 model, or an entry of another type.
        ValueError: for an unbuilt model, an unknown name, or when no site is left.

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"),
        ...                           keras.layers.Dense(2, name="output")])
        >>> [site.name for site in sites.find(model).sites]
        ['hidden/kernel']
    """
    return _found(model, include, exclude, adds=True)


def find_all(model: Model, include: Layers = None, exclude: Layers = ()) -> Found:
    """Find all sites of a model: those that `exclude` names are left out, and no others.

    For what looks at a model or keeps it as it is. With `exclude=None` the same as `find`.

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"),
        ...                           keras.layers.Dense(2, name="output")])
        >>> [site.name for site in sites.find_all(model, exclude="hidden").sites]
        ['output/kernel']
    """
    return _found(model, include, exclude, adds=exclude is None)


def _found(model, include, exclude, *, adds):
    """`adds`: whether what `exclude` names comes on top of what is left out by default."""
    check_model(model)
    there = walked(model)
    default = include is None and adds and (exclude is None or bool(as_list("exclude", exclude)))
    spared = _spared(model, there.sites) if default else {}
    named = matching("exclude", exclude, there.sites, there.skipped)
    spared |= {site.name: "excluded" for site in named}
    chosen = there.sites
    if include is not None:
        chosen = matching("include", include, there.sites, there.skipped)
    taken = {site.name for site in chosen} - spared.keys()
    kept = [site for site in there.sites if site.name in taken]
    left = [(site.path, spared[site.name]) for site in there.sites if site.name in spared]
    skipped = list(dict.fromkeys(there.skipped + left))
    if not kept:
        raise ValueError(nothing_left(skipped))
    return Found(kept, skipped)


def _spared(model, sites):
    """{site name: why it is left out by default}."""
    trained = {id(variable) for variable in model.trainable_variables}
    found = {site.name: _FROZEN for site in sites if id(site.variable) not in trained}
    return found | {site.name: _OUTPUT for site in _outputs(model, sites)}


def as_list(argument: str, wanted: Layers) -> list[str | keras.Layer]:
    """Names, patterns and layers as a list; a TypeError that names the argument for anything else.

    Example:
        >>> as_list("exclude", 3)
        Traceback (most recent call last):
            ...
        TypeError: exclude=3; it takes names, patterns such as 'conv*' or layers, one or a list.
    """
    several = isinstance(wanted, Iterable) and not isinstance(wanted, (str, keras.Layer))
    items: list[Any] = [] if wanted is None else list(wanted) if several else [wanted]
    for item in items:
        if not isinstance(item, (str, keras.Layer)):
            raise TypeError(
                f"{argument}={shown(item)}; it takes names, patterns such as 'conv*' or layers, "
                "one or a list."
            )
    return items


def matching(
    argument: str, wanted: Layers, sites: LiveSites, skipped: Iterable[tuple[str, str]] = ()
) -> LiveSites:
    """Those of `sites` that any name, pattern or layer in `wanted` stands for.

    An exact name wins over a pattern: "conv[0]" is the layer of that name, where there is one.

    Args:
        argument: whose entries these are, for messages.
        wanted: one or several of them; None stands for none.
        sites: to choose from.
        skipped: [(layer, why it has no site)]: what was left out anyway may be named in "exclude".

    Raises:
        TypeError: for an entry that is neither.
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
    names = [_names(site.path) | {site.name, site.layer.name} for site in sites]
    without = [(_names(path), path, reason) for path, reason in skipped]
    matched = []
    for item in as_list(argument, wanted):
        if isinstance(item, keras.Layer):
            own = {id(variable) for variable in item.weights}
            hits = [site for site in sites if id(site.variable) in own]
            others = [(path, why) for known, path, why in without if item.name in known]
        else:
            hits = [sites[index] for index in picked(item, names)]
            others = [without[i][1:] for i in picked(item, [known for known, *_ in without])]
        if not hits and not (others and argument == "exclude"):
            raise ValueError(_no_match(argument, item, sites, others))
        matched.extend(hits)
    return matched


def _no_match(argument, item, sites, others):
    text = item if isinstance(item, str) else item.name
    if others:
        path, reason = others[0]
        return f"{argument}={shown(text)}: layer {path!r} cannot be pruned: {reason}"
    names = sorted({site.path for site in sites})
    hint = did_you_mean(text, names, opening=" Did")
    return (
        f"{argument}={shown(text)} matches no prunable layer.{hint} Prunable layers: "
        f"{shortened(names)}."
    )


def _names(path):
    """All that a layer and those around it may be called."""
    parts = path.split("/")
    return {"/".join(parts[: end + 1]) for end in range(len(parts))} | {parts[-1]}


def _outputs(model, sites):
    """The sites of the layers that produce the model's outputs.

    Walks back from the outputs of a graph. A subclassed model has no graph to follow: its last
    site in tracking order is taken.
    """
    if not operations(model):
        return [site for site in sites if sites and site.layer is sites[-1].layer]
    found, frontier, seen = [], keras_private.output_calls(model), set()
    while frontier:
        call = frontier.pop()  # not the layer: a Dropout may stand in other places, too
        if id(call) in seen:
            continue
        seen.add(id(call))
        operation, inside = call.operation, []
        if isinstance(operation, keras.Layer):
            weights = {id(variable) for variable in operation.weights}
            inside = [site for site in sites if id(site.variable) in weights]
        if not inside:
            frontier.extend(keras_private.calls_before(call, operations(model)))
        elif isinstance(operation, keras.Model):
            found.extend(_outputs(operation, inside))
        elif isinstance(operation, _L.Bidirectional):
            found.extend(inside)
        else:
            found.extend(site for site in inside if site.layer is inside[-1].layer)
    return found
