"""Decides which channels can go without changing the outputs of a model."""

import functools

import keras
import numpy as np

from activation_pruning.graph.channels import Flow
from activation_pruning.graph.reasons import Why
from activation_pruning.support.types import Array, Mask

_SILENT = "prune them with their biases: ap.prune(..., granularity='unit') does"
_TOGETHER = "prune those they meet as well: ap.prune(..., granularity='unit') of all layers does"


class Removal:
    """The largest set of channels that can go exactly.

    A class of channels that are tied goes when nothing pins it and each layer that reads one of
    them either has only zeros for it (towards its units that stay), or can take its constant value
    into the bias. Found by starting from all of them and taking back whatever is needed, until
    nothing changes; no layer loses all of its units.

    Args:
        flow: what is known of the channels, see `graph.channels.follow`.

    Example:
        >>> from activation_pruning.graph import channels
        >>> dense = keras.layers.Dense
        >>> model = keras.Sequential([keras.Input((1,)), dense(2), dense(1)])
        >>> zeros, ones = np.zeros, np.ones
        >>> model.set_weights([np.array([[1.0, 0.0]]), ones(2), ones((2, 1)), zeros(1)])
        >>> Removal(channels.follow(model)).channels.tolist()  # the input, two units, the output
        [False, False, True, False]
    """

    def __init__(self, flow: Flow) -> None:
        self.flow, self._labels = flow, flow.labels()
        classes = self._labels.max(initial=-1) + 1
        self._gone = np.ones(classes, bool)
        for ids, _ in flow.pins:
            self._gone[self._labels[ids]] = False
        while self._take_back() or self._keep_one():
            pass

    @property
    def channels(self) -> Mask:
        """Which channels go."""
        return self._gone[self._labels]

    def of(self, ids: Array) -> Mask:
        """Which of these channels go."""
        return self._gone[self._labels[ids]]

    def touches(self, layer: keras.Layer) -> bool:
        """Whether anything goes that the weights of a layer belong to."""
        axes = [self.flow.slices[id(v)][1] for v in layer.weights if id(v) in self.flow.slices]
        return any(self.of(ids).any() for own in axes for ids in own.values())

    def fold(self, layer: keras.Layer) -> Array | None:
        """What the constants that go contributed to each unit of a layer; None where nothing."""
        use = next((use for use in self.flow.uses if use.layer is layer), None)
        if use is None or use.weights is None:
            return None
        gone = self.of(use.ids) & use.folds
        values = np.where(gone, use.value, 0.0)
        values[~np.isfinite(values)] = 0.0
        found = values @ use.weights.astype(np.float64)
        return found if found.any() else None

    def folding(self, layer: keras.Layer) -> list[keras.Layer]:
        """The layers among `layer` and those inside that take constants into their biases."""
        own = {id(variable) for variable in layer.weights}
        inside = dict.fromkeys(use.layer for use in self.flow.uses if use.weights is not None)
        return [one for one in inside if id(getattr(one, "bias", None)) in own]

    def reasons(self, ids: Array, most: int = 3) -> list[Why]:
        """Why these channels stay."""
        wanted = np.zeros(len(self._gone), bool)
        wanted[self._labels[ids]] = True
        labels, numbers = self._pinned
        found = [self.flow.pins[number][1] for number in np.unique(numbers[wanted[labels]])]
        for use, needed in self._all_needed:
            held = needed & wanted[self._labels[use.ids]]
            if use.why:
                found += [use.why] * int(held.any())
                continue
            if (held & np.isfinite(use.value)).any():
                border = ": sums differ at its borders" if hasattr(use.layer, "padding") else ""
                reason = f"{use.layer.name!r} takes no constants but zeros into its bias{border}"
                found.append(Why(reason, _SILENT))
            if (held & ~np.isfinite(use.value)).any():
                reason = f"they meet others that vary before {use.layer.name!r}"
                found.append(Why(reason, _TOGETHER))
        return list(dict.fromkeys(found))[:most]

    @functools.cached_property
    def _pinned(self):
        """(class, number of the pin) of all channels that are pinned, one pin after the other."""
        pins = [ids for ids, _ in self.flow.pins]
        labels = self._labels[np.concatenate([np.zeros(0, int), *pins])]
        return labels, np.repeat(np.arange(len(pins)), [len(ids) for ids in pins])

    @functools.cached_property
    def _all_needed(self):
        """[(use, its inputs that have to stay)], now that nothing changes any more."""
        return [(use, self._needed(use)) for use in self.flow.uses]

    def _needed(self, use):
        """Inputs of a use that have to stay: they reach units that do, and cannot be folded."""
        staying = ~self.of(use.out)
        return use.nonzero[:, staying].any(axis=1) & ~use.folds

    def _take_back(self):
        before = int(self._gone.sum())
        for use in reversed(self.flow.uses):  # from the outputs on, so that few rounds are needed
            self._gone[self._labels[use.ids[self._needed(use)]]] = False
        return int(self._gone.sum()) < before

    def _keep_one(self):
        """Keep a channel of the last layer that would lose all; whether there was any such.

        One at a time: what that one needs is kept first, and it may need one of the others.
        """
        counted = [size.ids for size in self.flow.sizes.values()]
        counted += [x.ids for own in self.flow.inputs.values() for x in own]
        emptied = next((ids for ids in reversed(counted) if self.of(ids).all()), None)
        if emptied is None:
            return False
        self._gone[self._labels[emptied[0]]] = False
        return True
