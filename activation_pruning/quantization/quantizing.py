"""Keras's own quantisation with pruned weights kept at zero, and a report of what it did."""

import dataclasses
import warnings
from typing import Any

import keras
import numpy as np

from activation_pruning import keras_private, sites
from activation_pruning.allocations import uniform
from activation_pruning.evidence import batches, reading
from activation_pruning.keras_private import quantized
from activation_pruning.pruning import Settings, layer_by_layer
from activation_pruning.pruning.event import Event
from activation_pruning.quantization import report
from activation_pruning.quantization.float_models import check_float
from activation_pruning.support.checks import check_count
from activation_pruning.support.names import quoted
from activation_pruning.support.progress import ProgressBar
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Data, Layers, Model
from activation_pruning.surgeons import GPTQ

MODES = ("int8", "int4", "gptq", "awq")
_SAMPLES = 1024  # of data, on which the outputs before and after are compared


def quantize(
    model: Model,
    mode: Any = "int8",
    data: Data = None,
    *,
    include: Layers = None,
    exclude: Layers = (),
    samples: int = _SAMPLES,
    steps: int | None = None,
    verbose: int = 1,
    **pruning: Any,
) -> report.QuantizationReport:
    """Quantise the weights of a model in place, by Keras's own modes; pruned weights stay zeros.

    The layers become those that `model.quantize(mode)` makes: files saved from the model load
    without this package. "int8" and "int4" scale each unit by its largest weight, "awq" scales
    inputs as well; none of them moves a zero, so they are Keras's own here. Keras's "gptq" fills
    zeros again, since every weight makes up for the rounding of others. Here it is
    `surgeons.GPTQ`, which keeps them, layer by layer in the order of their calls, each with what
    its inputs have become; it takes any inputs, not texts alone, and any model, not blocks alone.

    Args:
        model: a built `keras.Model` in float.
        mode: "int8", "int4", "gptq", "awq"; a configuration of `keras.quantizers` for one of these
            (its dataset and tokenizer are not looked at); or a `surgeons.GPTQ(bits=, ...)`.
        data: typical inputs, a few hundred samples or more, as for `prune`. "gptq" and "awq" need
            them; with the others they show how far the outputs move.
        include, exclude: layers to quantise and to leave in float (names, patterns, layers).
        samples: how many samples of `data` the outputs before and after are compared on.
        steps: how many batches of `data` to read, see `prune`.
        verbose: 0 for no progress bar.
        **pruning: for "gptq" only: `sparsity`, `granularity` ("weight" or N:M) and `allocation`
            ("uniform" unless given), to prune and quantise in one pass, see `surgeons.GPTQ`.

    Returns:
        A `QuantizationReport`; print it, or take `.table()`. Layers without a quantised form (all
        but Dense, EinsumDense and Embedding) are listed, and stay in float.

    Raises:
        TypeError: when `model` is not a Keras 3 model.
        ValueError: for an unknown mode, a model that is quantised already, missing data, a layer
            that the data does not reach, or a model with callbacks of this package attached.

    Source: Frantar et al., ICLR 2023 (GPTQ); Lin et al., MLSys 2024 (AWQ).

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8, name="a")])
        >>> x = np.random.default_rng(0).normal(size=(64, 16))
        >>> pruned = ap.prune(model, 0.75, exclude=())
        >>> report = ap.quantize(model, "gptq", data=x, verbose=0)
        >>> report.sparsity >= 0.75, report.refilled
        (True, 0)
    """
    check_float(model)
    check_count("samples", samples, 1)
    data = reading.first(data, steps)
    if reading.once(data):
        data = list(reading.batches_in(data))  # it is gone through several times
    name, config = _mode(mode)
    _check(name, data, pruning)
    layers = _with_kernels(model)
    chosen, left = _chosen(model, layers, name, include, exclude)
    before = {path: _alive(layer) for path, layer in chosen.items()}
    outputs = _outputs(model, data, samples)
    if name == "gptq":
        left |= _gptq(model, chosen, config, data, pruning, verbose)
    elif name == "awq":
        left |= _awq(model, chosen, config, data)
    else:
        for layer in chosen.values():
            layer.quantize(name, **({} if config is None else {"config": config}))
    quantized.finish(model)
    rows = [
        report.left_float(layer, path, _alive(layer), left[path])
        if path in left
        else report.row(layer, path, before[path])
        for path, layer in layers.items()
    ]
    after = _outputs(model, data, samples)
    moved = report.change(outputs, after) if outputs else {}
    return report.QuantizationReport(report.table(rows), moved)


def _mode(mode):
    """(name, configuration of Keras or surgeon, or None)"""
    if isinstance(mode, GPTQ):
        return "gptq", mode
    if isinstance(mode, str) and mode in MODES:
        return mode, None
    name = getattr(mode, "mode", None)
    if isinstance(name, str) and name in MODES:
        return name, mode
    raise ValueError(
        f"mode={shown(mode)}; it must be one of {MODES}, a configuration of keras.quantizers for "
        "one of them, or an ap.surgeons.GPTQ"
    )


def _check(name, data, pruning):
    known = {"sparsity", "granularity", "allocation"}
    if pruning.keys() - known:
        raise TypeError(
            f"quantize() got an unexpected argument {shown(sorted(pruning.keys() - known)[0])}; of "
            f"what prune takes it hands on {sorted(known)}"
        )
    if pruning and name != "gptq":
        raise ValueError(
            f"{sorted(pruning)}: mode={name!r} prunes nothing; call ap.prune before it, or take "
            "mode='gptq', which prunes in the same pass"
        )
    if name in ("gptq", "awq") and data is None:
        raise ValueError(f"mode={name!r} needs data=, some hundred typical inputs of the model")
    if name == "awq" and not hasattr(keras.quantizers, "AWQConfig"):
        raise ValueError(
            f"mode='awq': Keras {keras.__version__} has no AWQ, 3.14 has; take 'gptq' or 'int4'"
        )


def _chosen(model, layers, name, include, exclude):
    """({path: layer to quantise}, {path: why another layer with kernels is not})."""
    wanted = {id(s.layer) for s in sites.find(model, include, exclude).sites}
    chosen, left = {}, {}
    for path, layer in layers.items():
        why = _refusal(layer, name)
        if id(layer) not in wanted:
            left[path] = why or "excluded"
        elif why:
            left[path] = why
        else:
            chosen[path] = layer
    if not chosen:
        raise ValueError(f"mode={name!r}: the model has no layer for it; it has {left}")
    return chosen, left


def _refusal(layer, name):
    kind = type(layer)
    if "quantize" not in vars(kind):
        return f"{kind.__name__} has no quantised form in Keras"
    if getattr(layer, "lora_enabled", False):
        return "LoRA is enabled"
    if name in ("gptq", "awq"):
        shape = quantized.matrix_shape(layer)
        if shape is None:
            return f"Keras stores no {name} form of such a {kind.__name__}"
        if shape[1] != _units(layer):
            return f"Keras would store its {name} form along other axes than those of its units"
    return None


def _units(layer):
    (site,) = sites.find(layer, exclude=()).sites
    return site.n_units


def _with_kernels(model):
    """{path: layer} of the layers that hold weights of two axes or more, each once."""
    known = {id(site.layer): site.path for site in sites.find_all(model).sites}
    return {
        known.get(id(layer), layer.path): layer
        for layer in keras_private.with_sublayers(model)
        if report.kernels(layer)
    }


def _alive(layer):
    return keras.ops.convert_to_numpy(report.kernels(layer)[0]) != 0


def _outputs(model, data, samples):
    """The outputs for the first samples of data, as a list of arrays; empty without data."""
    if data is None:
        return []
    found, left = [], samples
    for x, count in batches.to_run(data, min(samples, 256), model):
        outputs = keras.tree.flatten(model(x, training=False))
        found.append([keras.ops.convert_to_numpy(one)[:left] for one in outputs])
        left -= count
        if left <= 0:
            break
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


# -- with data -------------------------------------------------------------------------------


def _gptq(model, chosen, config, data, pruning, verbose):
    """Round the kernels, and store what came out; returns {path: why a layer was left}."""
    surgeon = _surgeon(config)
    live = [s for s in sites.find(model, exclude=()).sites if s.path in chosen]
    own = {"granularity": "weight", "allocation": uniform} | pruning
    target = own.pop("sparsity", 0.0)
    settings = Settings(surgeon, **own)
    settings.check_target(target)
    event = Event(model, live, settings, progress=ProgressBar(verbose))
    event.check()
    floats = {id(layer): layer.get_weights() for layer in chosen.values()}
    try:
        done = layer_by_layer.pruned(event, target, data)
    except BaseException:  # half of the layers rounded are of no use
        for layer in chosen.values():
            layer.set_weights(floats[id(layer)])
        raise
    reached = {site.name for site in done.sites}
    config = keras.quantizers.GPTQConfig(
        dataset=None, tokenizer=None, weight_bits=surgeon.bits, group_size=surgeon.group_size,
        symmetric=surgeon.symmetric, activation_order=surgeon.activation_order,
        hessian_damping=min(surgeon.share, 1.0),
    )  # fmt: skip
    for site in live:
        if site.name in reached:
            (grid,) = surgeon.grids.pop(site.name)
            quantized.store_gptq(
                chosen[site.path], config, grid.codes, grid.scales, grid.zeros, grid.groups
            )
    return {s.path: "the data does not reach it" for s in live if s.name not in reached}


def _surgeon(config):
    """A surgeon of our own, whose grids nobody else sees."""
    if config is None or isinstance(config, GPTQ):
        return dataclasses.replace(config or GPTQ())
    return GPTQ(
        bits=config.weight_bits,
        group_size=config.group_size,
        symmetric=config.symmetric,
        activation_order=config.activation_order,
        damping=config.hessian_damping,
    )


def _awq(model, chosen, config, data):
    """AWQ of Keras, by the largest inputs that each layer sees."""
    config = config or keras.quantizers.AWQConfig(dataset=None, tokenizer=None)
    largest: dict[str, Any] = {}

    def seen(path, original):
        def call(x, *args, **kwargs):
            values = np.abs(keras.ops.convert_to_numpy(x)).astype(np.float32)
            rows = quantized.matrix_shape(chosen[path])[0]
            own = values.reshape(-1, rows).max(axis=0)
            largest[path] = np.maximum(largest.get(path, own), own)
            return original(x, *args, **kwargs)

        return call

    shadows = [(layer, "call", seen(path, layer.call)) for path, layer in chosen.items()]
    with keras_private.overridden(shadows):
        for x, _ in batches.to_run(data, 256, model):
            model(x, training=False)
    for path, layer in chosen.items():
        if path in largest:
            quantized.quantize_awq(layer, config, largest[path])
    missed = {path: "the data does not reach it" for path in chosen if path not in largest}
    if missed:
        warnings.warn(
            f"not quantised: {quoted(missed)}: the data does not reach them", stacklevel=3
        )
    return missed
