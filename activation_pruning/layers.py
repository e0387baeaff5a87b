"""The explicit form: a serializable wrapper whose masks and counts are saved with the model."""

import inspect
import warnings

import keras
from keras import ops

from activation_pruning import attachment, gathering, internals, pruning, rebuilding, sites


@keras.saving.register_keras_serializable(package="activation_pruning")
class PrunedLayer(keras.layers.Wrapper):
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
        self.supports_masking = layer.supports_masking
        self.count, self.threshold = count, threshold
        self._counters, self._pairs = {}, []

    def build(self, input_shape=None):
        super().build(input_shape)
        self._live = _all_sites(self.layer)
        for site in self._live:
            name = site.name.removeprefix(f"{self.layer.name}/").replace("/", "_")
            mask = self.add_weight(
                shape=site.variable.shape,
                initializer="ones",
                dtype="bool",
                trainable=False,
                autocast=False,
                name=f"{name}_mask",
            )
            self._pairs.append((name, site, mask))
        if self.count:
            seen = [site.source for site in self._live if site.source.layer is self.layer]
            for index, source in enumerate(dict.fromkeys(seen)):
                counter = attachment.Counter(source, self.threshold)
                setattr(self, f"sums_{index}", counter.sums)  # tracked, hence saved
                self._counters[source] = counter

    def call(self, inputs, training=None, **kwargs):
        if "training" in inspect.signature(self.layer.call).parameters:
            kwargs["training"] = training
        masks = {id(site.variable): mask for _, site, mask in self._pairs}
        mapping = [
            (v, internals.masked(v.value, masks[id(v)].value) if id(v) in masks else v.value)
            for v in self.layer.variables
        ]
        updatable = self.layer.non_trainable_variables
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            before = [scope.get_current_value(variable) for variable in updatable]
            outputs = self.layer(inputs, **kwargs)
        for variable, old in zip(updatable, before, strict=True):
            new = scope.get_current_value(variable)
            if new is not old:
                variable.assign(new)
        for loss in scope.losses:
            self.add_loss(loss + 0)  # a tensor of its own: Keras knows the layer's by identity
        if training:
            self._count(outputs)
        return outputs

    def _count(self, outputs):
        for counter in self._counters.values():
            counter.update(outputs)

    def compute_mask(self, inputs, previous_mask=None):
        return self.layer.compute_mask(inputs, previous_mask)

    def mask_of(self, variable):
        """The mask variable of one of the layer's kernels, or None."""
        return next((mask for _, site, mask in self._pairs if site.variable is variable), None)

    def set_mask(self, name, mask):
        """Set the mask of the kernel `name` (True = alive) and zero what it prunes.

        Raises:
            ValueError: for a name that is not among the wrapped layer's kernels.
        """
        found = {known: (site, variable) for known, site, variable in self._pairs}
        if name not in found:
            raise ValueError(f"name={name!r} is not a kernel of this layer: {sorted(found)}")
        site, variable = found[name]
        variable.assign(mask)
        attachment.assign_mask(site, ops.convert_to_numpy(variable))

    def activity(self):
        """Tidy DataFrame of what was counted: layer, unit, frequency, mean, rms, ..."""
        if not self._counters:
            raise ValueError(
                "nothing counted: the layer was made with count=False, is not built, or is a "
                "composite, whose parts `ap.ActivationCounter` can count"
            )
        counted = [site for site in self._live if site.source in self._counters]
        return pruning.activity_table(counted, gathering.activity_of(counted, self._counters))

    def get_config(self):
        return {**super().get_config(), "count": self.count, "threshold": self.threshold}


def wrap(model, include=None, exclude=None):
    """A copy of a Sequential or Functional model with its prunable layers in `PrunedLayer`s.

    Weights are copied, exact zeros become pruned, and a compiled model is compiled alike (with
    a fresh optimizer state). Layers that are wrapped already stay as they are.

    Args:
        model: a built Sequential or Functional model, nested ones included.
        include: layers to wrap (names, patterns, layers); None takes all.
        exclude: layers to leave alone; None leaves out the output layer, `()` nothing.

    Returns:
        A new `keras.Model` with equal outputs.

    Raises:
        TypeError: for a subclassed model; use `PruningCallback` on it as it is.

    Example:

    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"),
    ...                           keras.layers.Dense(2, name="b")])
    >>> [layer.name for layer in ap.wrap(model).layers]
    ['pruned_a', 'b']
    """
    _check_graph(model, "wrap")
    wanted = sites.find(model, include, exclude).sites
    left, missed = {id(site.variable) for site in wanted if site.mask_variable is None}, []

    def replace(layer):
        copy = rebuilding.copy_layer(layer)
        if not any(id(v) in left for v in layer.variables):
            return copy
        if isinstance(layer, keras.layers.MultiHeadAttention):
            missed.append(layer.name)
            return copy
        return PrunedLayer(copy)

    def transfer(layer, new):
        if not isinstance(new, PrunedLayer) or isinstance(layer, PrunedLayer):
            rebuilding.copy_weights(layer, new)
            return
        rebuilding.copy_weights(layer, new.layer)
        live = _all_sites(new)
        alive = pruning.alive_masks(live)
        for site in live:
            attachment.assign_mask(site, alive[site.name])

    wrapped = rebuilding.rebuild(model, replace, transfer)
    if missed:
        warnings.warn(
            f"not wrapped: {missed}: the projections inside MultiHeadAttention cannot be reached "
            "by a wrapper; ap.PruningCallback prunes them in place",
            stacklevel=2,
        )
    return wrapped


def strip(model):
    """A copy of the model without `PrunedLayer`s: plain layers, pruned weights exact zeros.

    Args:
        model: a Sequential or Functional model.

    Returns:
        A new plain `keras.Model` with equal outputs, compiled alike; it loads without this
        package.

    Raises:
        TypeError: for a subclassed model.

    Example:

    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"),
    ...                           keras.layers.Dense(2, name="b")])
    >>> [layer.name for layer in ap.strip(ap.wrap(model)).layers]
    ['a', 'b']
    """
    _check_graph(model, "strip")

    def replace(layer):
        return rebuilding.copy_layer(layer.layer if isinstance(layer, PrunedLayer) else layer)

    def transfer(layer, new):
        if not isinstance(layer, PrunedLayer):
            rebuilding.copy_weights(layer, new)
            return
        rebuilding.copy_weights(layer.layer, new)
        pairs = zip(_all_sites(layer), _all_sites(new), strict=True)
        for masked, plain in pairs:
            attachment.assign_mask(plain, ops.convert_to_numpy(masked.mask_variable))

    return rebuilding.rebuild(model, replace, transfer)


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
