"""Live objects made again, one for one: layers of any class, and all that they hold.

No configuration is asked: many classes have none that says everything, and none says what several
layers share. Within one `Twins` whatever is met twice stays one thing: a layer, a variable.
"""

from collections.abc import Callable
from typing import Any

import keras

from activation_pruning import keras_private, sites
from activation_pruning.graph.holding import LIVE, opened, reached
from activation_pruning.keras_private import instances

_OWNED = (dict, list, set)  # may be changed in place, so a copy has its own
# They hold things of a backend which only their constructors know how to make.
_CONFIGURED = tuple(
    getattr(keras.layers, name)
    for name in ("TorchModuleWrapper", "TFSMLayer")
    if hasattr(keras.layers, name)
)


class NotCopied(TypeError):
    """Something in a model cannot be made again; the message names it."""


class Twins:
    """Maps a value to its twin: the same value, with the layers and variables in it made anew.

    Functions, initializers, regularizers and whatever else holds no layer, variable, metric or
    optimizer stay the same objects. Optimizers start afresh.

    Args:
        graph: makes the twin of a Functional or Sequential model.

    Example:
        >>> dense = keras.layers.Dense(1, activation=lambda x: 2 * x)
        >>> twin = Twins(graph=None)({"layers": [dense, dense]})["layers"]
        >>> twin[0] is twin[1], twin[0] is dense, twin[0].activation is dense.activation
        (True, False, True)
    """

    def __init__(self, graph: Callable[[keras.Model], keras.Model] | None) -> None:
        self._graph = graph
        self._known: dict[int, tuple[Any, Any]] = {}  # by id; the old ones are kept alive
        self._open: set[int] = set()
        self.configured: list[tuple[keras.Layer, keras.Layer]] = []  # without weights yet

    def __call__(self, value: Any) -> Any:
        if id(value) in self._known:
            return self._known[id(value)][1]
        if not isinstance(value, LIVE) and opened(value) is None:
            return value
        if id(value) in self._open:
            name = getattr(value, "name", type(value).__name__)
            raise NotCopied(f"{name!r} cannot be copied: it holds itself, on a detour")
        self._open.add(id(value))
        try:
            return self.know(value, self._made(value))
        finally:
            self._open.discard(id(value))

    def know(self, value: Any, twin: Any) -> Any:
        """From now on `twin` stands for `value`; returns it."""
        self._known[id(value)] = value, twin
        return twin

    def are(self, value: Any, twin: Any) -> bool:
        """Whether `twin` stands for `value`."""
        return id(value) in self._known and self._known[id(value)][1] is twin

    def dress(self, new: Any, owner: Any) -> None:
        """Put on `new` what is on `owner`, but for what Keras keeps there."""
        try:
            values = {name: self(value) for name, value in instances.attributes(owner).items()}
            instances.attach(new, owner, values)
        except NotCopied:
            raise
        except Exception as error:  # whatever a class of the user's own raises
            raise NotCopied(
                f"{owner.name!r} ({type(owner).__name__}) cannot be copied: {error}"
            ) from error

    def _made(self, value):
        if isinstance(value, keras.Layer) and sites.is_graph(value):
            return self._graph(value)
        if isinstance(value, _CONFIGURED):
            self.configured.append((value, type(value).from_config(value.get_config())))
            return self.configured[-1][1]
        if isinstance(value, keras.Optimizer):
            return self._optimizer(value)
        if isinstance(value, keras.random.SeedGenerator):
            new = type(value).from_config(value.get_config())
            new.state = self(value.state)
            return new
        if isinstance(value, keras.Variable):
            return instances.variable(value)
        return self._live(value) if isinstance(value, LIVE) else self._holder(value)

    def _live(self, owner):
        """A layer or metric."""
        new = self.know(owner, instances.bare(owner))
        self.dress(new, owner)
        items = instances.stored(owner).items()
        instances.store(new, owner, {name: [*map(self, held)] for name, held in items})
        return new

    def _optimizer(self, old):
        new = type(old).from_config(old.get_config())
        variables = keras_private.optimizer_variables(old) if old.built else []
        if variables and all(id(variable) in self._known for variable in variables):
            new.build([self(variable) for variable in variables])
        return new

    def _holder(self, value):
        """A container, function or object around the twins of what it holds."""
        if not isinstance(value, _OWNED) and next(reached(value), None) is None:
            return value
        inside = opened(value)
        return inside.close([self(part) for part in inside.parts])
