"""Models with their layers in wrappers, and out of them again."""

import warnings
from collections.abc import Iterable
from typing import Any

import keras

from activation_pruning import keras_private, sites
from activation_pruning.graph import copies, holding
from activation_pruning.hooks import fake_quantization
from activation_pruning.hooks.masking import assign_mask
from activation_pruning.layers.kernel_wrapper import KernelWrapper
from activation_pruning.layers.l0 import L0Layer
from activation_pruning.layers.pruned_layer import PrunedLayer
from activation_pruning.layers.reparameterized import SoftThresholdLayer
from activation_pruning.pruning import report
from activation_pruning.support.names import quoted
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Layers, Model


def wrap(
    model: Model,
    include: Layers = None,
    exclude: Layers = None,
    wrapper: type[KernelWrapper] = PrunedLayer,
    **arguments: Any,
) -> Model:
    """A copy of a Sequential or Functional model with its prunable layers in wrappers.

    Weights are copied (in a `PrunedLayer` exact zeros become pruned), and a compiled model is
    compiled alike (with a fresh optimizer state). Layers that are wrapped already stay as they are,
    and so do those that share weights with others.

    Args:
        model: a built Sequential or Functional model, nested ones included.
        include, exclude: layers to wrap and to leave alone, see `sites.find`.
        wrapper: the class: `PrunedLayer`, `L0Layer`, `SoftThresholdLayer`,
            `PowerpropagationLayer` or `StraightThroughLayer`.
        **arguments: for each wrapper, such as `droprate=0.05`.

    Returns:
        A new `keras.Model`; its outputs are equal, with `L0Layer` if all gates start fully open,
        with `StraightThroughLayer` before the first training step.

    Raises:
        TypeError: for a subclassed model (use `PruningCallback` on it), another `wrapper`, or a
            layer that cannot be copied.

    Warns:
        UserWarning: layers are not wrapped, with the reason.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"),
        ...                           keras.layers.Dense(2, name="b")])
        >>> [layer.name for layer in ap.wrap(model).layers]
        ['pruned_a', 'b']
    """
    _check_graph(model, "wrap")
    if not (isinstance(wrapper, type) and issubclass(wrapper, KernelWrapper)):
        raise TypeError(
            f"wrapper={shown(wrapper)}; give the class ap.PrunedLayer, ap.L0Layer, "
            "ap.SoftThresholdLayer, ap.PowerpropagationLayer or ap.StraightThroughLayer"
        )
    wanted = sites.find(model, include, exclude).sites
    left = {id(site.variable) for site in wanted if site.wrapper is None}
    missed: dict[str, str] = {}
    tied = holding.ties(model)

    def replace(layer, copy):
        kernels = [id(v) for v in layer.variables if id(v) in left]
        why = _unreachable(layer, [user for key in kernels for user in tied.get(key, ())])
        if kernels and why:
            missed[layer.name] = why
        return wrapper(copy(layer), **arguments) if kernels and not why else copy(layer)

    def transfer(layer, new):
        live = sites.find(new, exclude=()).sites
        alive = report.alive_masks(live)
        for site in live:
            assign_mask(site, alive[site.name])

    wrapped = copies.rebuild(model, replace, transfer)
    for why in dict.fromkeys(missed.values()):
        names = [name for name in missed if missed[name] == why]
        text = f"not wrapped: {quoted(names)}: {why}; ap.PruningCallback prunes them in place"
        warnings.warn(text, stacklevel=2)
    return wrapped


def _unreachable(layer, users):
    """Why a wrapper around `layer` would not stand before all that its kernels do; "" if it does.

    `users` are the layers that use the same kernels, if there are several.
    """
    if users:
        names = ", ".join(dict.fromkeys(repr(user.name) for user in users))
        return f"the layers {names} share weights, and a wrapper masks them in one layer only"
    if isinstance(layer, keras.layers.MultiHeadAttention):
        return "the projections inside MultiHeadAttention cannot be reached by a wrapper"
    return ""


def strip(model: Model) -> Model:
    """A copy of the model without wrappers: plain layers with the weights that act in inference.

    Of a model that `ap.fake_quantize` works on the copy has the rounded weights, and activations in
    float. Weights under a mask, behind a closed gate of `L0Layer` or under the threshold of a
    `SoftThresholdLayer` are exact zeros, those behind an open gate are multiplied by it. Biases
    stay as they are.

    Args:
        model: a Sequential or Functional model.

    Returns:
        A new `keras.Model` with equal outputs, compiled alike; it loads without this package. A
        warning says where no gate of any `L0Layer` is closed, and no weight under the threshold of
        any `SoftThresholdLayer`, so that nothing is pruned.

    Raises:
        TypeError: for a subclassed model.
        ValueError: for a wrapper that is itself inside of another layer, or around weights that
            act without its mask in another.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a")])
        >>> [layer.name for layer in ap.strip(ap.wrap(model, exclude=())).layers]
        ['a']
    """
    _check_graph(model, "strip")
    _check_ties(model)

    def replace(layer, copy):
        plain = layer.layer if isinstance(layer, KernelWrapper) else layer
        for inner in keras_private.with_sublayers(plain):
            if isinstance(inner, KernelWrapper):
                raise ValueError(
                    f"strip(model) cannot take {inner.name!r} out of {layer.name!r}; put the "
                    f"wrapper around that layer instead: {type(inner).__name__}({layer.name})"
                )
        return copy(plain)

    def transfer(layer, new):
        pair = [sites.find(one, exclude=()).sites for one in (layer, new)]
        for wrapped, plain in zip(*pair, strict=True):
            plain.variable.assign(wrapped.kernel())

    _warn_open(model)
    new = copies.rebuild(model, replace, transfer)
    quantised = fake_quantization.attached(model)
    rounded = quantised.kernels() if quantised else {}
    pair = [sites.find_all(one).sites for one in (model, new)]
    for before, after in zip(*pair, strict=True):
        if id(before.variable) in rounded:
            after.variable.assign(rounded[id(before.variable)])
    return new


def _check_ties(model):
    """Refuse to write masks into weights that other layers use without them."""
    tied = holding.ties(model)
    for site in sites.find(model, exclude=()).sites:
        others = [user.name for user in tied.get(id(site.variable), ()) if user is not site.wrapper]
        if site.wrapper is None or not others:
            continue
        raw, acting = (keras.ops.convert_to_numpy(x) for x in (site.variable, site.kernel()))
        if (raw != acting).any():
            raise ValueError(
                f"strip(model) cannot write the mask of {site.wrapper.name!r} into its kernel: "
                f"{others} use the same weights without it. Give them weights of their own"
            )


def _warn_open(model):
    """Say that gates or thresholds have pruned nothing, and what makes them."""
    if gated := _all_alive(model, L0Layer):
        warnings.warn(
            f"no gate of {quoted(layer.name for layer in gated)} is closed: nothing is pruned. "
            f"Train longer, or wrap with a greater penalty= (now {gated[0].price:.2g} for a "
            "weight), or a greater rate=, which makes gates move faster; ap.L0Sparsity() in "
            "callbacks shows how many are closed",
            stacklevel=3,
        )
    if under := _all_alive(model, SoftThresholdLayer):
        warnings.warn(
            f"no weight of {quoted(layer.name for layer in under)} is under its threshold: nothing "
            f"is pruned. Train longer, or wrap with a greater decay= (now {under[0].decay:.2g}), "
            "or a greater initial=; ap.LearnedSparsity() in callbacks shows how many are",
            stacklevel=3,
        )


def _all_alive(model, kind):
    """The wrappers of a kind in the model; empty where any of their weights is zero."""
    found = [layer for layer in keras_private.with_sublayers(model) if isinstance(layer, kind)]
    acting = [site.kernel() for layer in found for site in sites.find(layer, exclude=()).sites]
    return found if all(kernel.all() for kernel in acting) else []


def plain(model: Model) -> Model:
    """The model itself, or `strip(model)` where wrappers are in it."""
    inner = keras_private.with_sublayers(model)
    return strip(model) if any(isinstance(one, KernelWrapper) for one in inner) else model


def check_plain(found: Iterable[sites.LiveSite], why: str = "") -> None:
    """Raise where a wrapper multiplies one of these sites; `why` says what is wrong with that."""
    wrapper = next((site.wrapper for site in found if site.wrapper is not None), None)
    if wrapper is not None:
        kind = type(wrapper).__name__
        raise ValueError(f"the model has a {kind}, {wrapper.name!r}{why}: ap.strip it")


def _check_graph(model, name):
    sites.check_model(model)
    if not sites.is_graph(model):
        raise TypeError(
            f"{name}(model) needs a Sequential or Functional model, received the subclassed "
            f"{type(model).__name__}: it cannot be taken apart. Use ap.PruningCallback, "
            "ap.prune or ap.KeepPruned on it in place."
        )
