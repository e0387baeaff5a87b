"""Gradients of every single sample, kept as the factors that they are products of."""

import keras
import numpy as np
from keras import ops

from activation_pruning.evidence import autodiff, batches, probes
from activation_pruning.evidence.logits import Logits
from activation_pruning.sites.linear import Linear
from activation_pruning.support.progress import no_progress

_ROOM = 1 << 24  # numbers that gradients of single samples may hold at a time: 64 MiB of float32


class Factored:
    """Gradients of a linear layer's kernel, one for each sample: D_n^T X_n over its positions.

    Args:
        linear: the `linear.Linear`.
        calls: pairs (inputs, gradients before the activation), one for each call of the layer.
    """

    def __init__(self, linear, calls):
        self.linear, self.calls = linear, calls
        self.samples = len(calls[0][0])

    def squares(self):
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

    def each(self):
        """The gradients themselves: array of shape (samples, weights), flat in kernel order."""
        found = [one for part in self._parts() for one in part.swapaxes(0, 1)]
        return np.stack([self.linear.unfolding.from_units(one).reshape(-1) for one in found])

    def _parts(self):
        """Yield gradients as arrays of shape (blocks, samples, units, inputs), few at a time."""
        size = int(np.prod(self.linear.unfolding.shape))
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

    def __init__(self, gradients):
        self.gradients = gradients

    def squares(self):
        """Sum over the samples of the squared gradients, in the kernel's shape."""
        return np.square(self.gradients, dtype=np.float64).sum(axis=0)

    def each(self):
        """The gradients themselves: array of shape (samples, weights), flat in kernel order."""
        return self.gradients.reshape(len(self.gradients), -1)


def sample_gradients(model, live_sites, data, batch_size=256, progress=no_progress):
    """Yield, batch by batch, each sample's gradients of S^T z: z the logits, S S^T = H_L.

    For layers that are a matrix product the gradients come from their inputs and the gradients
    before their activation, for all samples at once; for others (recurrent ones, Embedding, ...)
    from one backward pass for each sample.

    Args:
        model, live_sites, data, batch_size, progress: see `curvature.gauss_newton`.

    Yields:
        (samples, iterator over the columns of S): each gives {site name: gradients}, with
        methods `squares` and `each`.
    """
    logits = Logits(model)
    linear = {site.name: found for site in live_sites if (found := _linear(site)) is not None}
    places = [(one.layer, where) for one in linear.values() for where in _WHERE]
    seen = probes.Probes(places)
    others = [site for site in live_sites if site.name not in linear]
    number = batches.count(data, batch_size, model)
    for batch, x in enumerate(batches.inputs_of(data, batch_size, model)):
        with logits.shown(), seen.seeing():
            root = logits.root(ops.convert_to_numpy(model(x, training=False)))
        inputs = {key: list(values) for key, values in seen.seen.items()}

        def show(column, batch=batch, columns=root.shape[2]):
            progress(batch * columns + column + 1, number and number * columns)

        yield len(root), _directions(model, logits, linear, others, seen, inputs, x, root, show)


_WHERE = (probes.INPUTS, probes.BEFORE)


def _directions(model, logits, linear, others, seen, inputs, x, root, show):
    for column in range(root.shape[2]):
        weights = root[:, :, column].astype("float32")
        found = {}
        if linear:
            with logits.shown(), seen.adding() as added:
                function = _projected(model, x, weights, added)
                gradients = autodiff.gradients(function, seen.variables)
            arrays = iter([ops.convert_to_numpy(gradient) for gradient in gradients])
            by_layer = {place[0]: [next(arrays) for _ in own] for place, own in seen.zeros.items()}
            for name, one in linear.items():
                calls = zip(inputs[one.layer, probes.INPUTS], by_layer[one.layer], strict=True)
                found[name] = Factored(one, list(calls))
        if others:
            with logits.shown():
                found |= _one_by_one(model, others, x, weights)
        show(column)
        yield found


def _projected(model, x, weights, begin=lambda: None):
    weights = ops.convert_to_tensor(weights)

    def function():
        begin()
        return ops.sum(ops.cast(model(x, training=False), "float32") * weights)

    return function


def _one_by_one(model, live_sites, x, weights):
    variables, found = [site.variable for site in live_sites], []
    for i in range(len(weights)):
        own = keras.tree.map_structure(lambda leaf, i=i: leaf[i : i + 1], x)
        gradients = autodiff.gradients(_projected(model, own, weights[i : i + 1]), variables)
        found.append([ops.convert_to_numpy(gradient) for gradient in gradients])
    return {
        site.name: Plain(np.stack(own))
        for site, own in zip(live_sites, zip(*found, strict=True), strict=True)
    }


def _linear(site):
    """The site as a matrix product whose values can be seen, or None."""
    if isinstance(site.source.layer, keras.layers.TimeDistributed):
        return None  # calls its layer where values are hidden
    try:
        return Linear(site)
    except ValueError:  # any other layer: sample by sample
        return None
