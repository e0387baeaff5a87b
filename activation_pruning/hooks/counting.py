"""What the units of one output do, counted batch by batch."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from activation_pruning.sites import Activity, Source

STATISTICS = {
    "frequency": lambda x, threshold: ops.cast(x > threshold, "float32"),
    "mean": lambda x, threshold: ops.cast(x, "float32"),
    "rms": lambda x, threshold: ops.square(ops.cast(x, "float32")),
}


_CARRY = 4096.0  # a power of two, by which floats are divided exactly


def sums_variable(shape: tuple[int, ...], **placement: Any) -> keras.Variable:
    """A variable of zeros, to which training steps add.

    float32 whatever the dtype policy (a bfloat16 count saturates at 256); under tf.distribute every
    replica adds what its share of the batch says, and reading sums over the replicas.
    """
    return keras.Variable(
        np.zeros(shape, "float32"),
        trainable=False,
        dtype="float32",
        autocast=False,
        aggregation="sum",
        synchronization="on_read",
        **placement,
    )


class Counter:
    """Sums of the statistics over samples, for each unit in one output; of a sample its mean.

    float32 counts of single samples would stop at 2^24: sums are kept as a rest below `_CARRY` and
    a number of whole ones.

    Args:
        source: says where the units are seen.
        threshold: a unit is active where its output is greater.
        statistics: names in `STATISTICS`; each costs a pass over the output.
    """

    def __init__(
        self, source: Source, threshold: float = 0.0, statistics: Iterable[str] = STATISTICS
    ):
        self.source, self.threshold, self.statistics = source, threshold, tuple(statistics)
        # One variable, the sample count last: each variable in a step has a price of its own.
        self.sums = sums_variable((2, len(self.statistics) * source.units + 1))

    def see(self, args: Any, kwargs: Any, outputs: Any, filling: Any = None) -> None:
        """Add a call of the source's layer, if it shows units; what is `filling` doesn't count."""
        shown = self.source.seen(args, kwargs, outputs)
        if shown is not None:
            output, mask = shown
            if filling is not None:
                mask = filling.hidden(self.source.layer, len(output), mask)
            self.update(output, mask)

    def update(self, output: Any, mask: Any = None) -> None:
        """Add one batch of what `Source.seen` shows; steps where the mask is False don't count."""
        x = ops.stop_gradient(output)
        rank = len(x.shape)
        axes = [axis % rank for axis in self.source.axes]
        if axes != list(range(rank - len(axes), rank)):
            x = ops.transpose(x, [a for a in range(rank) if a not in axes] + axes)
        batch = ops.shape(x)[0]
        if mask is not None:
            self._add(*self._masked(x, mask, batch))
            return
        if rank != 2:
            x = ops.reshape(x, (batch, -1))
        # Samples are summed first, as a product with ones: XLA's own reductions took three
        # times as long on a CPU. Zeros and ones are exact in any matmul precision.
        ones = ops.ones((1, batch), "float32")
        sums = [ops.matmul(ones, STATISTICS[name](x, self.threshold)) for name in self.statistics]
        if rank != 2 or x.shape[-1] != self.source.width:  # positions, in a flat axis too
            rows = [ops.reshape(one, (-1, self.source.width)) for one in sums]
            sums = [ops.mean(one, axis=0, keepdims=True) for one in rows]
        self._add(sums, ops.sum(ones, axis=1, keepdims=True))

    def _masked(self, x, mask, batch):
        """(sums of the means over the real steps of each sample, samples that have one)."""
        rest = ops.shape(x)[: len(x.shape) - len(self.source.axes)]
        mask = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(rest) - len(mask.shape))))
        real = ops.reshape(ops.broadcast_to(ops.cast(mask, "float32"), rest), (batch, -1))
        steps = ops.sum(real, axis=1, keepdims=True)
        shown = ops.expand_dims(real > 0, -1)
        x = ops.reshape(x, (batch, ops.shape(real)[1], -1, self.source.width))
        means = [ops.mean(STATISTICS[n](x, self.threshold), axis=2) for n in self.statistics]
        # What a padded step holds may be anything, even NaN: no product with zeros.
        kept = [ops.where(shown, mean, ops.zeros_like(mean)) for mean in means]
        sums = [
            ops.sum(ops.sum(one, axis=1) / ops.maximum(steps, 1), axis=0, keepdims=True)
            for one in kept
        ]
        return sums, ops.sum(ops.cast(steps > 0, "float32"), axis=0, keepdims=True)

    def _add(self, sums, samples):
        # In a graph without XLA each of these operations has a price: 1 % of a step in all.
        start, units = self.source.start, self.source.units
        if units != self.source.width:
            sums = [one[:, start : start + units] for one in sums]
        rest, whole = ops.split(self.sums.value, 2)
        rest = rest + ops.concatenate([*sums, samples], axis=1)
        # To the nearest, of either sign: what is left keeps its last digits.
        carried = ops.round(rest * (1 / _CARRY))
        self.sums.assign(ops.concatenate([rest - carried * _CARRY, whole + carried]))

    def read(self) -> Activity:
        """The means so far; zeros before the first sample."""
        values = np.array([1.0, _CARRY]) @ ops.convert_to_numpy(self.sums).astype("float64")
        samples = int(values[-1])
        rows = values[:-1].reshape(len(self.statistics), -1) / max(samples, 1)
        found = dict(zip(self.statistics, rows, strict=True))
        if "rms" in found:
            found["rms"] = np.sqrt(found["rms"])
        return Activity(samples=samples, **found)

    def reset(self) -> None:
        """Start again from zero."""
        self.sums.assign(np.zeros(self.sums.shape, "float32"))
