"""Models of users' own classes: which of their copies are of that class again."""

import collections
import warnings

import keras

from activation_pruning import keras_private, sites
from activation_pruning.graph import configurations
from activation_pruning.graph.twins import Twins
from activation_pruning.keras_private import instances

# What makes a class more than a way to put layers together.
_BEHAVIOUR = (
    "call", "train_step", "test_step", "predict_step", "compute_loss", "compute_metrics", "compile",
    "fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch",
)  # fmt: skip


class OwnClasses:
    """Decides for one model, and for those nested in it.

    A copy is of the same class while its configuration can describe it. Where layers have been
    exchanged, and `get_config` says how the class was made instead of which layers it has, the
    class stays if it behaves unlike other models, or if a plain model could not be loaded either.
    """

    def __init__(self, model: keras.Model) -> None:
        parts = {id(part): part for part in keras_private.with_sublayers(model)}.values()
        self._own = [part for part in parts if sites.is_graph(part) and _is_own(part)]
        self._all = bool(self._own) and (
            any(_overrides(part, *_BEHAVIOUR) for part in self._own) or not _plain_loads(parts)
        )

    def again(
        self, graph: keras.Model, plain: keras.Model, changed: bool, twins: Twins
    ) -> keras.Model:
        """`plain` as a model of the class of `graph`, with all its attributes; or `plain`."""
        if not _is_own(graph):
            return plain
        new = twins.know(graph, instances.bare(graph, plain))
        twins.dress(new, graph)
        instances.in_order(new, graph, twins)
        if not changed or self._all or _tells_its_layers(new):
            return new
        _warn(graph, "is a plain model, since a {kind} with these layers could not be loaded")
        return plain

    def check(self, model: keras.Model, new: keras.Model) -> None:
        """Warn where a file of the new model could not be loaded, though the class stayed."""
        if _is_own(new) and not _tells_its_layers(new) and not configurations.describes(new):
            _warn(
                model, "is a {kind} again, but a .keras file of it could not be loaded: save its "
                "weights, or keras.Model(copy.inputs, copy.outputs)"
            )  # fmt: skip


def calls_otherwise(layer: keras.Layer) -> bool:
    """Whether it is a model with a graph whose class has a `call` of its own.

    Example:
        >>> class Doubled(keras.Sequential):
        ...     def call(self, x, training=None, mask=None):
        ...         return 2 * super().call(x)
        >>> layers = [keras.Input((2,)), keras.layers.Dense(1)]
        >>> calls_otherwise(Doubled(layers)), calls_otherwise(keras.Sequential(layers))
        (True, False)
    """
    return sites.is_graph(layer) and _overrides(layer, "call")


def _is_own(graph):
    return type(graph) is not instances.plain_class(graph)


def _overrides(graph, *names):
    """Whether a class has methods of its own where a plain model has Keras's."""
    kinds = type(graph), instances.plain_class(graph)
    pairs = ([getattr(kind, name, None) for kind in kinds] for name in names)
    return any(own is not plain for own, plain in pairs)


def _tells_its_layers(new):
    """Whether the configuration lists the layers; or there is none, as for the original."""
    try:
        return isinstance(new.get_config().get("layers"), list)
    except Exception:  # whatever a class of the user's own raises
        return True


def _plain_loads(parts):
    """Whether Keras can load a plain model of these layers."""
    graphs = [part for part in parts if sites.is_graph(part)]
    places = collections.Counter(id(layer) for graph in graphs for layer in graph.layers)
    if any(times > 1 for times in places.values()):  # two layers, once loaded
        return False
    inside = [layer for graph in graphs for layer in graph.layers if not sites.is_graph(layer)]
    return all(configurations.describes(one) for one in inside if configurations.own_objects(one))


def _warn(graph, text):
    kind = type(graph).__name__
    told = f"{kind}.get_config says nothing of the layers that were exchanged"
    warnings.warn(f"the copy of {graph.name!r} {text.format(kind=kind)}: {told}", stacklevel=2)
