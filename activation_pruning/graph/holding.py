"""What a Python value holds, however deep: attributes, containers, closures, bound methods."""

import collections
import functools
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import keras

from activation_pruning import keras_private, sites
from activation_pruning.keras_private import instances

LIVE = (keras.Layer, keras.Metric, keras.Variable, keras.Optimizer, keras.random.SeedGenerator)
_ATOMS: tuple[type, ...] = (str, bytes, int, float, complex, bool, type(None), type)
_ATOMS += (types.ModuleType, keras.KerasTensor, keras.DTypePolicy)
# What these packages make holds nothing of Keras.
_FOREIGN = {"tensorflow", "tf_keras", "jax", "jaxlib", "flax", "torch", "numpy", "pandas"}


class Opened(NamedTuple):
    """The things inside a value, and a function of as many others: the same value around those."""

    parts: list
    close: Callable[[list], Any]


def opened(value: Any) -> Opened | None:
    """What is inside of a container, function or object; None where nothing is.

    Example:
        >>> inside = opened((1, 2))
        >>> inside.parts, inside.close([3, 4])
        ([1, 2], (3, 4))
    """
    if isinstance(value, _ATOMS):
        return None
    if isinstance(value, dict):
        kind = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
        return Opened([*value.values()], lambda new: kind(zip(value, new, strict=True)))
    if isinstance(value, tuple):
        return Opened([*value], getattr(type(value), "_make", tuple))
    if isinstance(value, (list, set)):
        return Opened([*value], list if isinstance(value, list) else set)
    if isinstance(value, types.MethodType):
        return Opened([value.__self__], lambda new: types.MethodType(value.__func__, *new))
    if isinstance(value, functools.partial):
        return _partial(value)
    if isinstance(value, types.FunctionType):
        return _function(value)
    if type(value).__module__.partition(".")[0] in _FOREIGN:
        return _compiled(value)
    return _object(value) if hasattr(value, "__dict__") else None


def reached(*values: Any, outside: Collection[int] = ()) -> Iterator[Any]:
    """The layers, variables, metrics, optimizers and seed generators in values, each once.

    What is in those with an id in `outside` is not looked at.

    Example:
        >>> dense = keras.layers.Dense(1)
        >>> [one is dense for one in reached({"f": lambda x: dense(x)})]
        [True]
    """
    waiting, seen = list(values), {}
    while waiting:
        value = waiting.pop()
        if isinstance(value, _ATOMS) or id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, LIVE):
            yield value
            waiting += [] if id(value) in outside else _of_live(value)
            continue
        inside = opened(value)
        waiting += inside.parts if inside else []


def leaves(model: keras.Model) -> dict[int, keras.Layer]:
    """The layers of a Sequential or Functional model and of those nested in it, by id.

    Example:
        >>> inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="a")])
        >>> [layer.name for layer in leaves(keras.Sequential([keras.Input((2,)), inner])).values()]
        ['a']
    """
    found: dict[int, keras.Layer] = {}
    waiting = list(model.layers)[::-1]
    while waiting:
        layer = waiting.pop()
        if sites.is_graph(layer):
            waiting += list(layer.layers)[::-1]
        else:
            found[id(layer)] = layer
    return found


class Named(NamedTuple):
    """A layer; path: its name behind those of the layers it is in; around: these and itself."""

    layer: keras.Layer
    path: str
    around: tuple[keras.Layer, ...]


def named(
    model: keras.Layer, paths: Mapping[str, str] | None = None, around: tuple = ()
) -> list[Named]:
    """All layers inside, each once, by the paths that `sites` gives them.

    Args:
        model: a model or layer.
        paths: {name of a layer right below: its path}, where that is another.

    Example:
        >>> inner = keras.Sequential([keras.layers.Dense(3, name="a")], name="inner")
        >>> [one.path for one in named(keras.Sequential([keras.Input((2,)), inner]))]
        ['inner', 'inner/a']
    """
    found: dict[int, Named] = {}
    paths = paths or {}
    for layer in keras_private.sublayers(model):
        if id(layer) not in found:
            path = paths.get(layer.name, layer.name)
            found[id(layer)] = Named(layer, path, (*around, layer))
            for one in named(layer, None, (*around, layer)):
                inner = Named(one.layer, f"{path}/{one.path}", one.around)
                found.setdefault(id(one.layer), inner)
    return list(found.values())


def ties(model: keras.Model) -> dict[int, list[keras.Layer]]:
    """{id of a variable: the layers that hold or use it}, where several do.

    These are the layers in the graph, and those that a model of one's own class keeps beside it.

    Example:
        >>> shared = keras.layers.Dense(2, name="shared")
        >>> layers = [shared, keras.layers.TimeDistributed(shared, name="each")]
        >>> x = keras.Input((2, 2))
        >>> tied = ties(keras.Model(x, layers[1](layers[0](x)))).popitem()[1]
        >>> [layer.name for layer in tied]
        ['shared', 'each']
    """
    graph = leaves(model)
    models = [model, *(one for one in keras_private.with_sublayers(model) if sites.is_graph(one))]
    own = [value for one in models for value in instances.attributes(one).values()]
    outside = {*graph, *map(id, models)}
    beside = [one for one in reached(*own, outside=outside) if isinstance(one, keras.Layer)]
    users: dict[int, list[keras.Layer]] = {}
    for layer in [*graph.values(), *(one for one in beside if id(one) not in outside)]:
        for one in reached(layer):
            if isinstance(one, keras.Variable):
                users.setdefault(id(one), []).append(layer)
    return {key: layers for key, layers in users.items() if len(layers) > 1}


def _of_live(value):
    if not isinstance(value, (keras.Layer, keras.Metric)):
        return []
    layers = list(value.layers) if sites.is_graph(value) else []
    held = [item for items in instances.stored(value).values() for item in items]
    return [*layers, *held, *instances.attributes(value).values()]


def _partial(value):
    keywords = value.keywords
    first = [value.func, *value.args]

    def close(new):
        named = dict(zip(keywords, new[len(first) :], strict=True))
        return functools.partial(*new[: len(first)], **named)

    return Opened([*first, *keywords.values()], close)


def _function(value):
    """A function: what it closes over, its defaults, and the layers that it finds as globals."""
    cells = [cell for cell in value.__closure__ or () if _filled(cell)]
    defaults, named = list(value.__defaults__ or ()), dict(value.__kwdefaults__ or {})
    names = [name for name in value.__code__.co_names if isinstance(_global(value, name), LIVE)]

    def close(new):
        new = iter(new)
        cell = {id(old): types.CellType(next(new)) for old in cells}
        closure = tuple(cell.get(id(old), old) for old in value.__closure__ or ())
        first = tuple(next(new) for _ in defaults) or None
        keywords = {name: next(new) for name in named} or None
        known = {**value.__globals__, **dict(zip(names, new, strict=True))}
        known = known if names else value.__globals__
        made = types.FunctionType(value.__code__, known, value.__name__, first, closure or None)
        made.__kwdefaults__, made.__qualname__ = keywords, value.__qualname__
        made.__module__, made.__doc__ = value.__module__, value.__doc__
        vars(made).update(vars(value))
        return made

    held = [cell.cell_contents for cell in cells]
    return Opened(
        [*held, *defaults, *named.values(), *(_global(value, name) for name in names)], close
    )


def _global(function, name):
    return function.__globals__.get(name)


def _filled(cell):
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _compiled(value):
    """What a backend has made of a function of Python cannot be made of another one."""
    inner = getattr(value, "__wrapped__", None) or getattr(value, "python_function", None)
    if inner is None:
        return None

    def close(_):
        raise TypeError(
            "it holds a compiled function (tf.function, jax.jit) that uses layers or variables; "
            "compile a method of the class in `call` instead of keeping it as an attribute"
        )

    return Opened([inner], close)


def _object(value):
    names = list(vars(value))

    def close(new):
        made = object.__new__(type(value))
        vars(made).update(zip(names, new, strict=True))
        return made

    return Opened(list(vars(value).values()), close)
