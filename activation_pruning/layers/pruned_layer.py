"""The explicit form: a serializable wrapper whose masks and counts are saved with the model."""

import warnings

import keras
from keras import ops

from activation_pruning import keras_private, sites
from activation_pruning.evidence import gathering
from activation_pruning.graph import copies
from activation_pruning.hooks import attachment
from activation_pruning.layers.kernel_wrapper import KernelWrapper
from activation_pruning.pruning import report


@keras.saving.register_keras_serializable(package="activation_pruning")
class PrunedLayer(KernelWrapper):
    """A layer whose kernels are multiplied by masks in every forward pass.

    y = layer(x; w * mask); the gradient of a pruned weight is zero for the same reason.
    Masks and counters are weights of the wrapper: they are saved with the model and work in
    custom training loops. `sites.find` sees through it, so `prune` and the callbacks set its
    masks; for a plain model that should stay plain, use the callbacks alone.

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

    def __init__(self, layer, count=True, threshold=0.0, **kwargs):
        kwargs.setdefault("name", f"pruned_{layer.name}")
        super().__init__(layer, **kwargs)
        self.count, self.threshold = count, threshold
        self._counters, self._masks = {}, {}

    def build(self, input_shape=None):
        super().build(input_shape)
        for name, site in self._kernels.items():
            self._masks[name] = self.add_weight(
                shape=site.variable.shape,
                initializer="ones",
                dtype="bool",
                trainable=False,
                autocast=False,
                name=f"{name}_mask",
            )
        if self.count:
            live = self._kernels.values()
            seen = [site.source for site in live if site.source.layer is self.layer]
            for index, source in enumerate(dict.fromkeys(seen)):
                counter = attachment.Counter(source, self.threshold)
                setattr(self, f"sums_{index}", counter.sums)  # tracked, hence saved
                self._counters[source] = counter

    def factor(self, name, training=False):
        return self._masks[name].value

    def mask_of(self, variable):
        return self._masks.get(self._name_of(variable))

    def call(self, inputs, training=None, **kwargs):
        outputs = super().call(inputs, training=training, **kwargs)
        if training:
            self._count(outputs)
        return outputs

    def _count(self, outputs):
        for counter in self._counters.values():
            counter.update(outputs)

    def set_mask(self, name, mask):
        """Set the mask of the kernel `name` (True = alive) and zero what it prunes.

        Raises:
            ValueError: for a name that is not among the wrapped layer's kernels.
        """
        if name not in self._masks:
            raise ValueError(f"name={name!r} is not a kernel of this layer: {sorted(self._masks)}")
        variable = self._masks[name]
        variable.assign(mask)
        attachment.assign_mask(self._kernels[name], ops.convert_to_numpy(variable))

    def activity(self):
        """Tidy DataFrame of what was counted: layer, unit, frequency, mean, rms, ..."""
        if not self._counters:
            raise ValueError(
                "nothing counted: the layer was made with count=False, is not built, or is a "
                "composite, whose parts `ap.ActivationCounter` can count"
            )
        counted = [site for site in self._kernels.values() if site.source in self._counters]
        return report.activity_table(counted, gathering.activity_of(counted, self._counters))

    def get_config(self):
        return {**super().get_config(), "count": self.count, "threshold": self.threshold}


def wrap(model, include=None, exclude=None, wrapper=PrunedLayer, **arguments):
    """A copy of a Sequential or Functional model with its prunable layers in wrappers.

    Weights are copied (in a `PrunedLayer` exact zeros become pruned), and a compiled model is
    compiled alike (with a fresh optimizer state). Layers that are wrapped already stay as they are.

    Args:
        model: a built Sequential or Functional model, nested ones included.
        include: layers to wrap (names, patterns, layers); None takes all.
        exclude: layers to leave alone; None leaves out the output layer, `()` nothing.
        wrapper: `PrunedLayer` or `L0Layer`, the class.
        **arguments: for each wrapper, such as `penalty=1e-5`.

    Returns:
        A new `keras.Model` with equal outputs; in an `L0Layer` that takes a `droprate` at which
        gates start fully open.

    Raises:
        TypeError: for a subclassed model; use `PruningCallback` on it as it is. For a `wrapper`
            of any other kind.

    Example:

    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"),
    ...                           keras.layers.Dense(2, name="b")])
    >>> [layer.name for layer in ap.wrap(model).layers]
    ['pruned_a', 'b']
    """
    _check_graph(model, "wrap")
    if not (isinstance(wrapper, type) and issubclass(wrapper, KernelWrapper)):
        raise TypeError(f"wrapper={wrapper!r}; give the class ap.PrunedLayer or ap.L0Layer")
    wanted = sites.find(model, include, exclude).sites
    left, missed = {id(site.variable) for site in wanted if site.wrapper is None}, []

    def replace(layer):
        copy = copies.copy_layer(layer)
        if not any(id(v) in left for v in layer.variables):
            return copy
        if isinstance(layer, keras.layers.MultiHeadAttention):
            missed.append(layer.name)
            return copy
        return wrapper(copy, **arguments)

    def transfer(layer, new):
        if not isinstance(new, KernelWrapper) or isinstance(layer, KernelWrapper):
            copies.copy_weights(layer, new)
            return
        copies.copy_weights(layer, new.layer)
        live = _all_sites(new)
        alive = report.alive_masks(live)
        for site in live:
            attachment.assign_mask(site, alive[site.name])

    wrapped = copies.rebuild(model, replace, transfer)
    if missed:
        warnings.warn(
            f"not wrapped: {missed}: the projections inside MultiHeadAttention cannot be reached "
            "by a wrapper; ap.PruningCallback prunes them in place",
            stacklevel=2,
        )
    return wrapped


def strip(model):
    """A copy of the model without wrappers: plain layers with the weights that act in inference.

    Weights under a mask or behind a closed gate of `L0Layer` are exact zeros, those behind an
    open gate are multiplied by it. Biases stay as they are.

    Args:
        model: a Sequential or Functional model.

    Returns:
        A new plain `keras.Model` with equal outputs, compiled alike; it loads without this
        package.

    Raises:
        TypeError: for a subclassed model.
        ValueError: for a wrapper that is itself inside of another layer.

    Example:

    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"),
    ...                           keras.layers.Dense(2, name="b")])
    >>> [layer.name for layer in ap.strip(ap.wrap(model)).layers]
    ['a', 'b']
    """
    _check_graph(model, "strip")

    def replace(layer):
        plain = layer.layer if isinstance(layer, KernelWrapper) else layer
        for inner in keras_private.with_sublayers(plain):
            if isinstance(inner, KernelWrapper):
                raise ValueError(
                    f"strip(model) cannot take {inner.name!r} out of {layer.name!r}; put the "
                    f"wrapper around that layer instead: {type(inner).__name__}({layer.name})"
                )
        return copies.copy_layer(plain)

    def transfer(layer, new):
        if not isinstance(layer, KernelWrapper):
            copies.copy_weights(layer, new)
            return
        copies.copy_weights(layer.layer, new)
        for wrapped, plain in zip(_all_sites(layer), _all_sites(new), strict=True):
            plain.variable.assign(wrapped.kernel())

    return copies.rebuild(model, replace, transfer)


def _check_graph(model, name):
    sites.check_model(model)
    if not sites.is_graph(model):
        raise TypeError(
            f"{name}(model) needs a Sequential or Functional model, received the subclassed "
            f"{type(model).__name__}: it cannot be taken apart. Use ap.PruningCallback, "
            "ap.prune or ap.KeepPruned on it in place."
        )


def _all_sites(layer):
    return sites.find(layer, exclude=()).sites
