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
        self.sums = sums_variable((len(self.statistics) * source.units + 1,))

    def update(self, outputs: Any) -> None:
        """Add one batch of the source's outputs."""
        x = ops.stop_gradient(keras.tree.flatten(outputs)[self.source.output])
        rank = len(x.shape)
        axes = [axis % rank for axis in self.source.axes]
        if axes != list(range(rank - len(axes), rank)):
            x = ops.transpose(x, [a for a in range(rank) if a not in axes] + axes)
        batch = ops.shape(x)[0]
        if rank != 2:
            x = ops.reshape(x, (batch, -1))
        # Samples are summed first, as a product with ones: XLA's own reductions took three
        # times as long on a CPU. Zeros and ones are exact in any matmul precision.
        values = [STATISTICS[name](x, self.threshold) for name in self.statistics]
        ones = ops.ones_like(values[0][:, 0])
        sums = ops.stack([ops.matmul(ones, value) for value in values])
        source = self.source
        sums = ops.reshape(sums, (len(values), -1, source.width))  # positions in the middle
        sums = ops.mean(sums, axis=1)[:, source.start : source.start + source.units]
        samples = ops.reshape(ops.cast(batch, "float32"), (1,))
        self.sums.assign_add(ops.concatenate([ops.reshape(sums, (-1,)), samples]))

    def read(self) -> Activity:
        """The means so far; zeros before the first sample."""
        values = ops.convert_to_numpy(self.sums).astype("float64")
        samples = int(values[-1])
        rows = values[:-1].reshape(len(self.statistics), -1) / max(samples, 1)
        found = dict(zip(self.statistics, rows, strict=True))
        if "rms" in found:
            found["rms"] = np.sqrt(found["rms"])
        return Activity(samples=samples, **found)

    def reset(self) -> None:
        """Start again from zero."""
        self.sums.assign(np.zeros(self.sums.shape, "float32"))
