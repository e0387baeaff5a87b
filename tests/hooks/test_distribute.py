"""Several devices: counts, masks and gradients are those of one device, alike on every replica.

Under `tf.distribute.MirroredStrategy` on TensorFlow and `keras.distribution` on JAX.
"""

import json
import re
import socket
import subprocess
import sys

import keras
import models
import pytest

BACKEND = keras.backend.backend()
TWO = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
pytestmark = [
    pytest.mark.backend,
    pytest.mark.skipif(BACKEND == "torch", reason="Keras's fit knows one device on PyTorch"),
]


def start(folder, *arguments, **variables):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=folder, env=models.environment(**TWO, **variables),
    )  # fmt: skip


def output(process):
    printed, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    return printed


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    printed = output(start(folder, models.HERE / "replicas.py"))
    return json.loads(printed.strip().splitlines()[-1])


def test_counts_are_exact(result):
    counted, pruner, oracle, samples = result["counts"]
    assert samples == [44]
    assert counted == pruner == oracle


def test_counts_are_those_of_a_single_device(result):
    for several, one, apart in result["single_device"]:
        assert several == one
        assert apart < 1e-5


@pytest.mark.parametrize("name", ["adam ema", "muon"])
def test_masks_are_exact_on_every_replica(result, name):
    reported, measured, alike, largest = result["masks"][name]
    assert reported == measured == 0.5
    assert alike
    assert 0 < largest < 10


@pytest.mark.parametrize("name", ["sgd", "loss scale"])
def test_gradients_are_those_of_the_whole_batch(result, name):
    for last, movement, size in result["gradients"][name]:
        assert max(last, movement) < 1e-5 < size
    assert max(size for _, _, size in result["gradients"][name]) > 0.1


def test_movement_prunes_what_it_prunes_on_a_single_device(result):
    alike, several, one = result["movement"]
    assert alike
    assert several == one


@pytest.mark.parametrize("index", [0, 1])
def test_weights_change_places_alike_on_every_replica(result, index):
    sparsity, grown, revived, same = result["regrowth"][index]
    assert sparsity == [0.5] * 4
    assert grown > 5
    assert revived == [False] * 4
    assert same == [True] * 2


def test_units_are_silent_on_every_replica_and_after_loading(result):
    found = result["units"]
    for name in ("fit", "loaded"):
        alike, *silenced = found[name]
        assert alike
        assert silenced == [[4, True, True], [2, True, True]]
    assert found["sparsity"][0] == found["sparsity"][1] > 0.4
    assert found["small"] == 4
    assert found["moments"] == ["after", "before", "epoch"]
    assert found["energy"][0] == pytest.approx(found["energy"][1], rel=1e-5)


def test_a_device_may_be_left_without_samples_where_keras_allows_it(result):
    counted, oracle, message = result["uneven"]
    assert counted == oracle
    assert ("divide" in message) == (BACKEND == "jax")


@pytest.mark.skipif(BACKEND != "jax", reason="ModelParallel is JAX's")
def test_masks_and_gradients_are_spread_as_their_kernels(result):
    counted, oracle, sparsity, zeros, shapes = result["model_parallel"]
    assert counted == oracle
    assert sparsity == 0.5
    assert zeros
    assert shapes == [[6, 4]] * 3  # the kernel, its mask, its movement: half on each device


@pytest.mark.skipif(BACKEND != "jax", reason="Keras 3 trains in several processes on JAX only")
def test_several_processes_count_and_prune_alike(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = models.HERE / "replicas.py"
    gloo = {"JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo", "JAX_PLATFORMS": "cpu"}
    both = [start(tmp_path, script, index, 2, port, **gloo) for index in range(2)]
    first, second = [json.loads(output(one).strip().splitlines()[-1])["processes"] for one in both]
    assert first == second
    counted, oracle, sparsity, alike, _ = first
    assert counted == oracle
    assert sparsity == 0.5
    assert alike


def test_the_example_in_the_readme_runs(tmp_path):
    text = (models.ROOT / "README.md").read_text()
    section = text.split("\n## Several devices\n")[1].split("\n## ")[0]
    examples = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    example = next(code for code in examples if f'"{BACKEND}"' in code)
    printed = output(start(tmp_path, "-c", example))
    found = re.findall(r"\[0\.\d+, 0\.\d+\]", printed.splitlines()[-1])
    assert len(found) == 1
    first, second = json.loads(found[0])
    assert first == second > 0.5
