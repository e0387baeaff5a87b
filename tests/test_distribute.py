"""Two logical devices under `tf.distribute.MirroredStrategy`: counts and masks stay exact."""

import json
import subprocess
import sys
import textwrap

import keras
import models
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's"
)

# In a process of its own: logical devices must be made before TensorFlow starts.
SCRIPT = """
    import json
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras, numpy as np
    import activation_pruning as ap, models

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    result = {}
    x, y = models.data(samples=22)

    with strategy.scope():
        model = models.compiled(models.mlp(), keras.optimizers.SGD(0.0))
    counter = ap.ActivationCounter(exclude=["out"])
    other = ap.PruningCallback(ap.schedules.OneShot(0.0, at=1), "activation")
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: model.predict(x, verbose=0))
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[counter, other, look],
              validation_data=(x, y))
    oracle = models.expected(lambda b: models.outputs(model, ["a", "b"], b), [x], epochs=2)
    result["counts"] = [
        [layer, *map(int, sums[0])] for layer, (sums, _) in oracle.items()]
    for name, table in (("counted", counter.table()), ("pruner", other.activity())):
        result[name] = [
            [layer, *np.rint(rows["frequency"] * rows["samples"]).astype(int).tolist()]
            for layer, rows in table.groupby("layer", sort=False)]
    result["samples"] = sorted(set(counter.table()["samples"].tolist()))
    result["mean"] = float(max(
        np.abs(table["mean"] * 44 - oracle[layer][0][1]).max()
        for layer, table in counter.table().groupby("layer")))

    for name, optimizer in {
        "adam ema": lambda: keras.optimizers.Adam(0.01, use_ema=True),
        "muon": lambda: keras.optimizers.Muon(0.01),
    }.items():
        with strategy.scope():
            model = models.compiled(models.mlp(), optimizer())
        schedule = ap.schedules.Linear(0.5, 4, 8, by="step")
        pruner = ap.PruningCallback(schedule, "activation_magnitude")
        history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[pruner])
        copies = [[(v.numpy() == 0).sum() for v in model.get_layer(layer).kernel.value.values]
                  for layer in ("a", "b")]
        result[name] = [
            history.history["sparsity"][-1], float(models.pruned(model, "a", "b")),
            [int(sum(parts)) for parts in zip(*copies)],
            float(np.abs(model.get_layer("a").kernel.numpy()).max())]

    from activation_pruning.attachment import attachment
    for name, optimizer in {
        "sgd": lambda: keras.optimizers.SGD(0.0),
        "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.0), initial_scale=4.0),
    }.items():
        with strategy.scope():
            model = models.compiled(models.mlp(), optimizer())
        trackers = attachment(model).track(
            "test", ap.sites.find(model).sites, ("last_gradient", "movement"))
        model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
        weights = [w.astype("float64") for w in model.get_weights()]
        found = [models.gradients(*batch, weights[::2], weights[1::2])
                 for batch in models.batches((x, y))]
        result["tracked " + name] = []
        for i, tracker in enumerate(trackers.values()):
            seen = tracker.read()
            moved = -2 * sum(gradients[i][0] for gradients in found) * weights[2 * i]
            result["tracked " + name] += [
                float(np.abs(seen["last_gradient"] - found[-1][i][0]).max()),
                float(np.abs(seen["movement"] - moved).max()), float(np.abs(moved).max())]

    with strategy.scope():
        model = models.compiled(models.mlp(), keras.optimizers.Adam(0.01))
    pruner = ap.PruningCallback(
        ap.schedules.Constant(0.5), "random", regrow=ap.regrowth.RigL(0.5, decay="constant"))
    history = model.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=[pruner])
    masks = list(pruner.masks().values())
    result["rigl"] = [
        history.history["sparsity"], int(pruner.table()["grown"].sum()),
        [bool(copy.numpy()[~mask].any()) for mask, layer in zip(masks, "ab")
         for copy in model.get_layer(layer).kernel.value.values]]
    print(json.dumps(result))
    """


@pytest.fixture(scope="module")
def result():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        capture_output=True, text=True, cwd=models.HERE, env=models.environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_counts_are_exact(result):
    assert result["samples"] == [44]
    assert result["counted"] == result["pruner"] == result["counts"]
    assert result["mean"] < 1e-4


@pytest.mark.parametrize("name", ["adam ema", "muon"])
def test_masks_are_exact_on_every_replica(result, name):
    reported, measured, zeros_per_replica, largest = result[name]
    assert reported == measured == 0.5
    assert zeros_per_replica == [44, 44]
    assert 0 < largest < 10


@pytest.mark.parametrize("name", ["sgd", "loss scale"])
def test_gradients_are_those_of_the_whole_batch(result, name):
    found = result[f"tracked {name}"]
    assert max(found[::3] + found[1::3]) < 1e-5
    assert min(found[2::3]) > 0.1


def test_weights_change_places_alike_on_every_replica(result):
    sparsity, grown, revived = result["rigl"]
    assert sparsity == [0.5] * 4
    assert grown > 5
    assert revived == [False] * 4
