"""Which units of different layers can only go together, and what must go with them."""

import dataclasses

import keras
import numpy as np

from activation_pruning import keras_private, sites
from activation_pruning.graph import inlining
from activation_pruning.graph.channels.flow import Flow, spread
from activation_pruning.graph.channels.walk import follow
from activation_pruning.sites import LiveSite, LiveSites
from activation_pruning.support.names import shortened
from activation_pruning.support.types import Array, Mask, Masks, Model

_OFFSETS = ("bias", "beta", "gamma")


@dataclasses.dataclass(frozen=True, eq=False)
class Offset:
    """What a layer adds to its units, or multiplies them by: a bias, beta or gamma.

    Or what it takes off them: a moving mean, where no gamma makes zeros of what comes of it.

    channels: of its entries along `axis`. The rest is what masking needs to know.
    """

    name: str
    path: str
    layer: keras.Layer
    variable: keras.Variable
    channels: Array
    axis: int
    mask_variable: None = None


class Coupling:
    """The channels that the units of all sites belong to; nothing is coupled in unknown graphs.

    units: {site name: the channel of each unit}. staying: the channels that can't go.
    slices: [(variable, {axis: the channel of each entry along it})]. graph: where they run, or
    None.

    Args:
        model: a built model. Of one whose call cannot be written down nothing is known.

    Example:
        >>> inputs = keras.Input((2,))
        >>> a = keras.layers.Dense(2, name="a")(inputs)
        >>> b = keras.layers.Dense(2, name="b")(inputs)
        >>> model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Add()([a, b])))
        >>> coupling = Coupling(model)
        >>> bool((coupling.units["a/kernel"] == coupling.units["b/kernel"]).all())
        True
    """

    def __init__(self, model: Model) -> None:
        self.units: dict[str, Array] = {}
        self.offsets: list[Offset] = []
        self._sites: list[LiveSite] = []
        self.staying: set[int] = set()
        self.graph = inlining.known(model)
        self.slices: list[tuple[keras.Variable, dict[int, Array]]] = []
        if self.graph is None:
            return
        flow = follow(self.graph)
        labels = flow.labels()
        # What meets an input of the model, or a layer nobody knows, may live without its sites.
        self.staying = {int(label) for ids, _ in flow.pins for label in labels[ids]}
        for variable, axes in flow.slices.values():
            self.slices.append((variable, {axis: labels[ids] for axis, ids in axes.items()}))
        for site in sites.find(model, exclude=()).sites:
            found = units_of(flow, site.variable, site.units)
            if found is not None:
                self._sites.append(site)
                self.units[site.name] = labels[found]
        # Layers come before those inside them, so the innermost that holds a variable stays.
        holders = {id(v): one for one in keras_private.with_sublayers(model) for v in one.weights}
        for variable, axes in flow.slices.values():
            layer, path = holders.get(id(variable)), variable.path  # of a state, none
            if layer is not None and path.split("/")[-1] in _offsets(layer) and len(axes) == 1:
                ((axis, ids),) = axes.items()
                self.offsets.append(Offset(path, path, layer, variable, labels[ids], axis))

    def silenced(self, alive: Masks) -> list[tuple[Offset, Mask]]:
        """Pairs (offset, bool mask), False where all weights that make the channel are pruned.

        Of channels that have to stay anyway, such as those of the model's inputs, all is alive.

        Args:
            alive: {site name: bool array}; of other sites what is not zero is alive.
        """
        made, living = set(), set()
        for site in self._sites:
            mask = alive[site.name] if site.name in alive else site.kernel() != 0
            made.update(self.units[site.name].tolist())
            living.update(self.units[site.name][site.units_alive(mask)].tolist())
        dead = np.array(sorted(made - living - self.staying), int)
        found = []
        for offset in self.offsets:
            mask = ~np.isin(offset.channels, dead)
            found.append((offset, np.array(spread(mask, offset.axis, offset.variable.shape))))
        return found

    def note(self, live_sites: LiveSites, alive: Masks) -> str:
        """Which of these sites have pruned units that have to stay, in words; "" where none has."""
        found = [site.path for site in live_sites if self._stays(site, alive[site.name])]
        if not found:
            return ""
        names = shortened(found, 5)
        return f"Pruned units of {names} cannot be taken out of the model: see ap.removable."

    def _stays(self, site, mask):
        dead = ~site.units_alive(mask)
        known = self.units.get(site.name)
        held = True if known is None else np.isin(known, list(self.staying))
        return bool(self._sites and (dead & held).any())


def _offsets(layer: keras.Layer) -> tuple[str, ...]:
    """The attributes that hold what has to be zero for a unit without weights to be zero."""
    plain = isinstance(layer, keras.layers.BatchNormalization) and not layer.scale
    return (*_OFFSETS, "moving_mean") if plain else _OFFSETS


def units_of(flow: Flow, variable: keras.Variable, units: Array) -> Array | None:
    """The channel of each unit of a kernel, or None where it is not known.

    `units` holds the unit of each weight, as `sites.Site` does.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="a")])
        >>> units_of(follow(model), model.layers[0].kernel, np.arange(3)[None]).tolist()
        [2, 3, 4]
    """
    axes, number = flow.slices.get(id(variable), (None, {}))[1], int(units.max()) + 1
    known = [axis for axis, size in enumerate(units.shape) if size > 1 and axis in axes]
    if number == 1 and not known:  # any axis would do
        axis = next((axis for axis, ids in axes.items() if len(ids) == 1), None)
        return None if axis is None else axes[axis]
    if len(known) != 1:
        return None
    found = np.empty(number, int)
    found[units.ravel()] = spread(axes[known[0]], known[0], units.shape).ravel()
    return found
