"""The explicit form: a serializable wrapper whose masks and counts are saved with the model."""

from typing import Any

import keras
from keras import ops

from activation_pruning.evidence import gathering
from activation_pruning.hooks.counting import Counter
from activation_pruning.hooks.masking import assign_mask
from activation_pruning.layers.kernel_wrapper import KernelWrapper
from activation_pruning.pruning import report
from activation_pruning.support.checks import check_flags, check_number
from activation_pruning.support.types import Mask, Table


@keras.saving.register_keras_serializable(package="activation_pruning")
class PrunedLayer(KernelWrapper):
    """A layer whose kernels are multiplied by masks in every forward pass.

    y = layer(x; w * mask), so the gradient of a pruned weight is zero. Masks and counters are
    weights of the wrapper: they are saved with the model and work in custom training loops.
    `prune` and the callbacks set its masks; a model that should stay plain needs them alone.

    Args:
        layer: the layer to wrap; it must hold at least one prunable kernel once built.
        count: whether to count activity in calls with `training=True`.
        threshold: output above which a unit counts as active.

    Raises:
        ValueError: when the layer turns out to hold nothing prunable.

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> layer = ap.PrunedLayer(keras.layers.Dense(3, activation="relu"))
        >>> _ = layer(np.ones((2, 4)))
        >>> layer.set_mask("kernel", np.zeros((4, 3), bool))
        >>> keras.ops.convert_to_numpy(layer(np.ones((2, 4)))).sum().item()
        0.0
    """

    def __init__(
        self, layer: keras.Layer, count: bool = True, threshold: float = 0.0, **kwargs: Any
    ) -> None:
        check_flags(count=count)
        check_number("threshold", threshold, hint="an output of a unit, 0 for a ReLU")
        kwargs.setdefault("name", f"pruned_{layer.name}")
        super().__init__(layer, **kwargs)
        self.count, self.threshold = count, threshold
        self._counters: dict = {}

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        for name, site in self._kernels.items():
            shape = site.variable.shape
            self._masks[name] = self.add_weight(
                shape, "ones", "bool", trainable=False, autocast=False, name=f"{name}_mask"
            )
        if self.count:
            seen = dict.fromkeys(site.source for site in self._kernels.values())
            for index, source in enumerate(s for s in seen if s.layer is self.layer):
                self._counters[source] = counter = Counter(source, self.threshold)
                setattr(self, f"sums_{index}", counter.sums)  # tracked, hence saved

    def factor(self, name: str, training: bool = False) -> Any:
        return self._masks[name].value

    def call(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        outputs = super().call(*args, training=training, **kwargs)
        if training:
            for counter in self._counters.values():
                counter.see(args, kwargs, outputs)
        return outputs

    def set_mask(self, name: str, mask: Mask) -> None:
        """Set the mask of the kernel `name` (True = alive) and zero what it prunes.

        Raises:
            ValueError: for a name that is not among the wrapped layer's kernels.
        """
        if name not in self._masks:
            raise ValueError(f"name={name!r} is not a kernel of this layer: {sorted(self._masks)}")
        variable = self._masks[name]
        variable.assign(mask)
        assign_mask(self._kernels[name], ops.convert_to_numpy(variable))

    def activity(self) -> Table:
        """Tidy DataFrame of what was counted: layer, unit, frequency, mean, rms, ..."""
        if not self._counters:
            raise ValueError(
                "nothing counted: the layer was made with count=False, is not built, or is a "
                "composite, whose parts `ap.ActivationCounter` can count"
            )
        counted = [site for site in self._kernels.values() if site.source in self._counters]
        return report.activity_table(counted, gathering.activity_of(counted, self._counters))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count, "threshold": self.threshold}
