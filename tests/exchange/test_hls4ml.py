"""Pruned models in the C++ text that hls4ml writes: zeros, and the multipliers that they save."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap

pytest.importorskip("hgq", reason="HGQ2 is not installed: make test-hgq")
pytest.importorskip("hls4ml", reason="hls4ml is not installed: make test-hgq")

import hls4ml
from hgq import layers as q
from hgq.utils import trace_minmax

pytestmark = pytest.mark.hgq
RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6, 6, 2)).astype("float32")
Y = RNG.integers(0, 3, 96)


def quantised():
    """A trained and pruned network of HGQ2."""
    model = keras.Sequential([
        keras.Input(X.shape[1:]),
        q.QConv2D(4, 3, activation="relu", name="conv"),
        layers.Flatten(),
        q.QDense(12, activation="relu", name="dense"),
        q.QBatchNormDense(10, activation="relu", name="normed"),
        q.QDense(3, name="out"),
    ])  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    pruner = ap.PruningCallback(ap.schedules.Linear(0.6, begin=0, end=1), exclude=())
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[pruner])
    trace_minmax(model, X)
    return model


def plain():
    return keras.Sequential([
        keras.Input((16,)),
        layers.Dense(8, activation="relu", name="wide"),
        layers.Dense(6, activation="relu", name="narrow"),
        layers.Dense(2, name="out"),
    ])  # fmt: skip


def written(model, folder, strategy, reuse_factor, io_type="io_parallel"):
    """What hls4ml makes of a model, its files written to a folder; nothing is synthesised."""
    settings = {"Precision": "ap_fixed<16,6>", "ReuseFactor": reuse_factor, "Strategy": strategy}
    converted = hls4ml.converters.convert_from_keras_model(
        model, output_dir=str(folder), backend="Vitis", hls_config={"Model": settings},
        io_type=io_type,
    )  # fmt: skip
    converted.write()
    return converted


def numbers(folder, variable):
    """The numbers of an array in the C++ text."""
    text = (Path(folder) / "firmware" / "weights" / f"{variable}.h").read_text()
    listed = re.search(rf"{variable}\[(\d+)\] = {{(.*?)}};", text, re.DOTALL)
    found = np.array([float(one) for one in listed[2].split(",")])
    assert len(found) == int(listed[1])
    return found


def multipliers(folder):
    """How many multipliers each layer is allowed, in the order of layers."""
    text = (Path(folder) / "firmware" / "nnet_utils" / "nnet_code_gen.h").read_text()
    return [int(one) for one in re.findall(r"instances=mul limit=(\d+)", text)]


def unit_by_unit(kernel):
    """A kernel as the Resource strategy writes it."""
    return np.moveaxis(kernel, -1, 0).reshape(-1)


@pytest.mark.parametrize(("strategy", "order"), [("latency", np.ravel), ("resource", unit_by_unit)])
def test_the_zeros_are_in_the_text(strategy, order, tmp_path):
    model = quantised()
    converted = written(model, tmp_path, strategy, 4)
    found = ap.sites.find(model, exclude=()).sites
    assert [site.path for site in found] == ["conv", "dense", "normed", "out"]
    for site in found:
        weights = numbers(tmp_path, converted.graph[site.path].weights["weight"].name)
        pruned = order(site.kernel() == 0)
        assert pruned.any()
        assert not weights[pruned].any(), site.path
        assert weights[~pruned].any()
        acting = order(keras.ops.convert_to_numpy(site.layer.qkernel))
        np.testing.assert_allclose(weights, acting, rtol=1e-6)


@pytest.mark.parametrize("reuse_factor", [4, 16, 32])
def test_pruned_groups_need_no_multiplier(reuse_factor, tmp_path):
    model, grain = plain(), ap.masks.Multiplier(reuse_factor)
    written(model, tmp_path / "before", "resource_unrolled", reuse_factor)
    ap.prune(model, 0.5, granularity=grain, exclude=())
    converted = written(model, tmp_path / "after", "resource_unrolled", reuse_factor)
    before, after = multipliers(tmp_path / "before"), multipliers(tmp_path / "after")
    saved = []
    for site in ap.sites.find(model, exclude=()).sites:
        block = grain.block(site.kernel().shape)
        factor = block.height * block.width
        assert converted.graph[site.path].get_attr("reuse_factor") == factor
        alive = unit_by_unit(site.kernel()).reshape(-1, factor).any(axis=1)
        saved.append(int((~alive).sum()))
    assert sum(saved) > 0
    assert [one - other for one, other in zip(before, after, strict=True)] == saved


def test_as_many_single_weights_save_hardly_any(tmp_path):
    one, other = plain(), plain()
    other.set_weights(one.get_weights())
    ap.prune(one, 0.5, granularity=ap.masks.Multiplier(8), exclude=())
    ap.prune(other, 0.5, exclude=())
    limits = []
    for name, model in (("groups", one), ("weights", other)):
        written(model, tmp_path / name, "resource_unrolled", 8)
        limits.append(sum(multipliers(tmp_path / name)))
    total = sum(int(np.prod(site.kernel().shape)) for site in ap.sites.find(one, exclude=()).sites)
    assert limits[0] < 0.6 * total / 8 < limits[1]


def test_a_convolution_in_a_stream_is_grouped_as_written(tmp_path):
    model = keras.Sequential([
        keras.Input((6, 6, 2)), layers.Conv2D(4, 3, name="conv"), layers.Flatten(),
        layers.Dense(2, name="out"),
    ])  # fmt: skip
    written(model, tmp_path / "before", "resource_unrolled", 6, "io_stream")
    ap.prune(model, 0.5, granularity=ap.masks.Multiplier(6), include="conv")
    written(model, tmp_path / "after", "resource_unrolled", 6, "io_stream")
    before, after = multipliers(tmp_path / "before"), multipliers(tmp_path / "after")
    assert before[0] - after[0] == 6  # half of 3 * 3 * 2 * 4 / 6


def test_reuse_factors_are_those_that_hls4ml_takes():
    backend = hls4ml.backends.get_backend("Vitis")
    for inputs in range(1, 25):
        for units in range(1, 13):
            possible = backend.get_valid_reuse_factors(inputs, units)
            possible = possible[:-1] or possible  # as for "resource_unrolled"
            for asked in range(1, inputs * units + 3):
                block = ap.masks.Multiplier(asked).block((inputs, units))
                taken = backend.get_closest_reuse_factor(possible, asked)
                assert block.height * block.width == taken, (inputs, units, asked)
