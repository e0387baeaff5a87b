"""Gradients of every single sample, kept as the factors that they are products of."""

import math
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from activation_pruning import sites
from activation_pruning.evidence import autodiff, batches, probes
from activation_pruning.evidence.logits import Logits
from activation_pruning.sites import LiveSites
from activation_pruning.sites.linear import Linear
from activation_pruning.support.types import Array, Data, Model, Progress

_ROOM = 1 << 24  # numbers that gradients of single samples may hold at a time: 64 MiB of float32


class Factored:
    """Gradients of a linear layer's kernel, one for each sample: D_n^T X_n over its positions.

    calls: pairs (inputs, gradients before the activation), one for each call of the layer.
    """

    def __init__(self, linear: Linear, calls: list[tuple[Array, Array]]) -> None:
        self.linear, self.calls = linear, calls
        self.samples = len(calls[0][0])

    def squares(self) -> Array:
        """Sum over the samples of the squared gradients, in the kernel's shape."""
        blocks, units = self.linear.unfolding.shape[0], self.linear.unfolding.units
        total = np.zeros((blocks, units, self.linear.inputs))
        if len(self.calls) == 1 and self._positions() == 1:
            x, d = self._factors(slice(None))
            # With one position the square of a product is the product of the squares.
            total += np.matmul((d * d)[:, :, 0].swapaxes(1, 2), (x * x)[:, :, 0])
        else:
            for part in self._parts():
                total += np.square(part).sum(axis=1, dtype=np.float64)
        return self.linear.unfolding.from_units(total)

    def each(self) -> Array:
        """The gradients themselves: array of shape (samples, weights), flat in kernel order."""
        found = [one for part in self._parts() for one in part.swapaxes(0, 1)]
        return np.stack([self.linear.unfolding.from_units(one).reshape(-1) for one in found])

    def _parts(self):
        """Yield gradients as arrays of shape (blocks, samples, units, inputs), few at a time."""
        size = math.prod(self.linear.unfolding.shape)
        step = max(1, _ROOM // (size + self._positions() * self.linear.inputs))
        for start in range(0, self.samples, step):
            x, d = self._factors(slice(start, start + step))
            yield np.matmul(d.swapaxes(2, 3), x)

    def _positions(self):
        return sum(self.linear.columns(d[:1]).shape[1] for _, d in self.calls)

    def _factors(self, part):
        """X and D of some samples, of shapes (blocks, samples, positions, inputs or units)."""
        found = [], []
        for x, d in self.calls:
            rows = np.concatenate(list(self.linear.rows(x[part])), axis=1)
            for own, values in zip(found, (rows, self.linear.columns(d[part])), strict=True):
                blocks, _, width = values.shape
                own.append(values.reshape(blocks, len(x[part]), -1, width))
        return [np.concatenate(own, axis=2) for own in found]


class Plain:
    """Gradients of any kernel, one for each sample, as arrays of the kernel's shape."""

    def __init__(self, gradients: Array) -> None:
        self.gradients = gradients

    def squares(self) -> Array:
        """As `Factored.squares`."""
        return np.square(self.gradients, dtype=np.float64).sum(axis=0)

    def each(self) -> Array:
        """As `Factored.each`."""
        return self.gradients.reshape(len(self.gradients), -1)


def sample_gradients(
    model: Model, live_sites: LiveSites, data: Data, batch_size: int, progress: Progress
) -> Iterator[tuple[int, Iterator[dict[str, Factored | Plain]]]]:
    """Yield, batch by batch, each sample's gradients of S^T z: z the logits, S S^T = H_L.

    For layers that are a matrix product the gradients come from their inputs and the gradients
    before their activation, for all samples at once; for others (recurrent ones, Embedding, ...)
    from one backward pass for each sample.

    Args: as for `curvature.gauss_newton`.
    Yields (samples, iterator over the columns of S, which gives {site name: gradients}).
    """
    passes, number = _Passes(model, live_sites), batches.count(data, batch_size, model)
    for batch, (x, samples) in enumerate(batches.to_run(data, batch_size, model)):
        root = passes.forward(x)
        if samples < len(root):  # the rest fills up the batch
            root = root * (np.arange(len(root)) < samples)[:, None, None]

        def show(column, batch=batch, columns=root.shape[2]):
            progress(batch * columns + column + 1, number and number * columns)

        yield samples, passes.backward(x, root, show)


class _Passes:
    """A pass forward for each batch, and then one backward for each column of S."""

    def __init__(self, model, live_sites):
        self.model, self.logits, self.linear, self.others = model, Logits(model), {}, []
        for site in live_sites:
            if linear := _linear(site):
                self.linear[site.name] = linear
            else:
                self.others.append(site)
        where = probes.INPUTS, probes.BEFORE
        self.seen = probes.Probes((one.layer, w) for one in self.linear.values() for w in where)

    def forward(self, x):
        """S for each sample."""
        with self.logits.shown(), self.seen.seeing():
            return self.logits.root(ops.convert_to_numpy(self.model(x, training=False)))

    def backward(self, x, root, show):
        """Yield {site name: gradients} for each column of S."""
        for column in range(root.shape[2]):
            weights = root[:, :, column].astype("float32")
            with self.logits.shown():
                found = {**self._at_once(x, weights), **self._one_by_one(x, weights)}
            show(column)
            yield found

    def _at_once(self, x, weights):
        if not self.linear:
            return {}
        slopes, found = self.seen.derivatives(self._projected(x, weights)), {}
        for name, one in self.linear.items():
            inputs = self.seen.seen[one.layer, probes.INPUTS]
            calls = zip(inputs, slopes[one.layer, probes.BEFORE], strict=True)
            found[name] = Factored(one, list(calls))
        return found

    def _one_by_one(self, x, weights):
        variables, found = [site.variable for site in self.others], []
        for i in range(len(weights) if variables else 0):
            own, alone = x, weights * (np.arange(len(weights)) == i)[:, None]
            if sites.batch_size(self.model) is None:
                own = keras.tree.map_structure(lambda leaf, i=i: leaf[i : i + 1], x)
                alone = weights[i : i + 1]
            slopes = autodiff.gradients(self._projected(own, alone.astype("float32")), variables)
            found.append([ops.convert_to_numpy(slope) for slope in slopes])
        pairs = zip(self.others, zip(*found, strict=True), strict=True)
        return {site.name: Plain(np.stack(own)) for site, own in pairs}

    def _projected(self, x, weights):
        weights = ops.convert_to_tensor(weights)
        return lambda: ops.sum(ops.cast(self.model(x, training=False), "float32") * weights)


def _linear(site):
    """The site as a matrix product whose values can be seen, or None."""
    if isinstance(site.source.layer, keras.layers.TimeDistributed):
        return None  # calls its layer where values are hidden
    try:
        return Linear(site)
    except ValueError:  # any other layer: sample by sample
        return None
