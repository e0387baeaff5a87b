"""What the newest published code of the paper does beside its criterion, for the ablation only.

Three options of the experiment, each by itself: counts of a few images (`count_images`), the
weights out of dead units (`outgoing`), and the average of what was pruned given to what is left
(`redistribute`; the published code has it, but none of the versions since August 2022, when the
networks of the paper were trained, calls it). The first two came in December 2022; in August 2022
each training image was counted.

Source: github.com/tusharganguli/PrunedNetwork, prune_network.py and pruning_callback.py.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace

import keras
import numpy as np

import activation_pruning as ap
from lab import arms, command_line, network

OPTIONS = ("count_images", "outgoing", "redistribute")
MOST = 0.999  # what events and outgoing weights may come to together


def add_options(parser) -> None:
    """Add the three to a parser; `chosen` reads them."""
    add = parser.add_argument
    told = "count which units fire in so many training images at each epoch's end, not in all"
    add("--count-images", type=command_line.count, help=told)
    told = "prune the weights out of dead units as well, on top of --sparsities"
    add("--outgoing", action="store_true", help=told)
    told = "add the mean of the weights that went to those left in the same row"
    add("--redistribute", action="store_true", help=told)


def chosen(options) -> dict:
    """The settings of a run for those options that were given; none where there were none."""
    return {name: getattr(options, name) for name in OPTIONS if getattr(options, name)}


def pruning(settings: dict, data) -> tuple:
    """The pruner of a run and the callbacks that prune, in order; see `arms.train`."""
    if not settings["sparsity"] or settings["arm"] in arms.GRADUAL:
        return arms.pruning(settings, data)
    aftermath = Aftermath(settings.get("redistribute"), settings.get("outgoing"))
    criterion, before = aftermath.watching(ap.criteria.get(arms.criterion(settings["arm"]))), []
    if settings.get("count_images") and "frequency" in criterion.needs:
        images = FewImages(data.x_train, settings["count_images"], settings["seed"])
        criterion, before = images.counting(criterion), [images]
    schedule = OnTop(*arms.triggers(settings), beside=lambda: aftermath.beside)
    pruner = ap.PruningCallback(schedule, criterion, seed=settings["seed"])
    return pruner, [*before, pruner, aftermath]


@dataclass(frozen=True)
class OnTop(ap.schedules.AccuracyTriggered):
    """Each event takes its share of all weights on top of those that went beside the events.

    beside: tells which share of the weights that is.
    """

    _: KW_ONLY
    beside: Callable[[], float]

    def due(self, progress):
        """As if nothing had gone beside the events."""
        return super().due(self._events_alone(progress))

    def target(self, progress):
        """What the events come to, and what went beside them."""
        return min(super().target(self._events_alone(progress)) + self.beside(), MOST)

    def _events_alone(self, progress):
        return replace(progress, sparsity=max(progress.sparsity - self.beside(), 0.0))


class FewImages(keras.callbacks.Callback):
    """Count which units fire for a few training images, drawn anew at the end of each epoch."""

    def __init__(self, x, number: int, seed: int):
        super().__init__()
        self.x, self.number, self.random = x, number, np.random.default_rng(seed)
        self.fired: dict[str, np.ndarray] = {}
        self.samples = 0

    def on_epoch_end(self, epoch, logs=None):
        """Runs before the pruner: an event sees the counts of its own epoch as well."""
        x = self.random.choice(self.x, self.number)
        self.samples += self.number
        for layer in self.model.layers[:-1]:
            x = keras.ops.convert_to_numpy(layer(x))
            self.fired[layer.name] = self.fired.get(layer.name, 0) + (x > 0).sum(axis=0)

    def counting(self, criterion):
        """The criterion, with these counts in the place of those of the whole training."""

        def scores(site):
            frequency = self.fired[site.layer] / self.samples
            seen = ap.sites.Activity(samples=self.samples, frequency=frequency)
            return criterion(replace(site, activity=seen))

        return scores


class Aftermath(keras.callbacks.Callback):
    """What comes after an event: weights are redistributed, and dead units are cut off.

    It stands behind the pruner. `beside` is the share of weights that it pruned.
    """

    def __init__(self, redistribute: bool, outgoing: bool):
        super().__init__()
        self.redistribute, self.outgoing = redistribute, outgoing
        self.seen: dict[str, tuple] = {}  # of the epoch's event: kernel and frequency by layer
        self.beside = 0.0

    def watching(self, criterion):
        """The criterion, which also notes what kernels and units were like before the event."""

        def scores(site):
            units = site.kernel.shape[-1]
            seen = getattr(site.activity, "frequency", None)
            self.seen[site.layer] = site.kernel, np.ones(units) if seen is None else seen
            return criterion(site)

        scores.needs = getattr(criterion, "needs", frozenset())
        return scores

    def on_epoch_end(self, epoch, logs=None):
        """Acts where there was an event."""
        if self.seen and self.redistribute:
            for layer in self.model.layers[:-1]:
                kernel, _ = layer.get_weights()
                layer.kernel.assign(redistributed(*self.seen[layer.name], after=kernel))
        if self.seen and self.outgoing:
            before = {layer: kernel for layer, (kernel, _) in self.seen.items()}
            self.beside += cut_off(self.model, before)
        self.seen = {}


def redistributed(before: np.ndarray, frequency: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The kernel after an event, with the mean of what went from each row added to what is left.

    Weights of a row count by the frequency of their unit, in the mean and in its shares. A row
    from which nothing went, or of which nothing is left, stays as it is.

    >>> before = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> after = np.array([[0.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> redistributed(before, np.array([0.5, 0.25, 0.75]), after)
    array([[0.  , 2.25, 3.75],
           [4.  , 5.  , 6.  ]])
    """
    gone, left = frequency * ((before != 0) & (after == 0)), frequency * (after != 0)
    mean = _over((gone * before).sum(axis=1), gone.sum(axis=1))
    shares = _over(left, left.sum(axis=1)[:, None])
    return (after + shares * mean[:, None]).astype(after.dtype)


def _over(parts, whole):
    whole = np.broadcast_to(whole, np.shape(parts))
    return np.divide(parts, whole, out=np.zeros(np.shape(parts)), where=whole > 0)


def cut_off(model, before: dict[str, np.ndarray]) -> float:
    """Prune the weights out of the units that died in an event; return their share of all.

    before: the hidden kernels before the event. As in the published code a unit died where it had
    all its incoming weights before and has none now: one that lost them little by little is not
    seen. The output layer keeps its weights.
    """
    kernels = network.hidden_kernels(model)
    dead, leaving = False, {}
    for layer, kernel in kernels.items():
        leaving[layer] = (kernel != 0) & np.reshape(dead, (-1, 1))
        dead = (before[layer] != 0).all(axis=0) & (kernel == 0).all(axis=0)
    count = sum(int(mask.sum()) for mask in leaving.values())
    if not count:
        return 0.0
    share = count / sum(kernel.size for kernel in kernels.values())
    ap.prune(model, network.sparsity(model) + share, lambda site: 1.0 - leaving[site.layer])
    return share
