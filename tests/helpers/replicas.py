"""What pruning does on several devices, printed as JSON: test_distribute.py runs this file.

In a process of its own, because devices are made before a backend starts. With arguments
"i n port": process i of n, each with so many devices, which train together (JAX).
"""

import contextlib
import json
import sys

import keras
import models
import numpy as np

import activation_pruning as ap
from activation_pruning.hooks.attachment import attachment

JAX = keras.backend.backend() == "jax"
SCHEDULE = {"begin": 1, "end": 3}


def start():
    """Two virtual devices (JAX: by XLA_FLAGS); where models are made so that they live on all."""
    if JAX:
        if len(sys.argv) > 1:
            index, count, port = sys.argv[1:]
            keras.distribution.initialize(f"127.0.0.1:{port}", int(count), int(index))
        distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
        keras.distribution.set_distribution(distribution)
        assert len(keras.distribution.list_devices()) == (4 if len(sys.argv) > 1 else 2)
        return contextlib.nullcontext
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    return strategy.scope


@contextlib.contextmanager
def on(distribution):
    """JAX: another distribution, or None for a single device."""
    known = keras.distribution.distribution()
    if JAX:
        keras.distribution.set_distribution(distribution)
    yield
    if JAX:
        keras.distribution.set_distribution(known)


def sgd(rate=0.0, **kwargs):
    return keras.optimizers.SGD(rate, **kwargs)


def adam(**kwargs):
    return keras.optimizers.Adam(0.01, **kwargs)


def build(make=models.mlp, optimizer=sgd):
    """On all devices; `optimizer` makes one."""
    with scope():
        return models.compiled(make(), optimizer())


def fit(model, callbacks, samples=22, epochs=4, shape=(6,), **kwargs):
    """Train; 22 samples leave a partial last batch of six, three for each device."""
    return model.fit(
        *models.data(shape, samples), batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks,
        **kwargs,
    ).history  # fmt: skip


def replicas(variable):
    """The values of a variable on each device."""
    if JAX:
        return [np.asarray(shard.data) for shard in variable.value.addressable_shards]
    return [copy.numpy() for copy in variable.value.values]


def alike(model, masks):
    """Whether every device has the same kernels, with zeros exactly where `masks` have none."""
    kernels = [replicas(model.get_layer(name.split("/")[0]).kernel) for name in masks]
    return all(
        len(copies) == 2 and all(((copy != 0) == mask).all() for copy in copies)
        and (copies[0] == copies[1]).all()
        for copies, mask in zip(kernels, masks.values(), strict=True)
    )  # fmt: skip


def sums(table):
    """[layer, active samples of each unit] of a table of activity."""
    return [
        [layer, *(rows["frequency"] * rows["samples"]).round(4).tolist()]
        for layer, rows in table.groupby("layer", sort=False)
    ]


def oracle(model, samples=22, epochs=1):
    """The same by NumPy, and the summed outputs."""
    x = models.data(samples=samples)[0]
    found = models.expected(lambda b: models.outputs(model, ["a", "b"], b), [x], epochs)
    return [[layer, *map(float, values[0])] for layer, (values, _) in found.items()]


# -- the checks: each gives what the test of its name asserts -----------------------------------


def counts():
    model = build()
    counter = ap.ActivationCounter(exclude=["out"])
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.0, at=1), "activation")
    x, y = models.data(samples=22)
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: model.predict(x, verbose=0)
    )
    fit(model, [counter, pruner, look], epochs=2, validation_data=(x, y))
    samples = sorted(set(counter.table()["samples"].tolist()))
    return sums(counter.table()), sums(pruner.activity()), oracle(model, epochs=2), samples


def single_device():
    """The same weights and data on all devices and on one."""
    found = []
    for make, shape in ((models.mlp, (6,)), (models.convolutional, (8, 8, 2))):
        model, tables = build(make), []
        weights = model.get_weights()
        counter = ap.ActivationCounter(exclude=["out"])
        fit(model, [counter], epochs=1, shape=shape)
        tables.append(counter.table())
        with on(None):
            model = models.compiled(make(), sgd())
            model.set_weights(weights)
            fit(model, [counter], epochs=1, shape=shape)
        tables.append(counter.table())
        several, one = tables
        apart = float((several[["mean", "rms"]] - one[["mean", "rms"]]).abs().max().max())
        found.append([sums(several), sums(one), apart])
    return found


def masks():
    found = {}
    for name, optimizer in {
        "adam ema": lambda: adam(use_ema=True),
        "muon": lambda: keras.optimizers.Muon(0.01),
    }.items():
        model = build(optimizer=optimizer)
        pruner = ap.PruningCallback(ap.schedules.Linear(0.5, 4, 8, by="step"))
        history = fit(model, [pruner], epochs=3)
        found[name] = [
            history["sparsity"][-1], float(models.pruned(model, "a", "b")),
            alike(model, pruner.masks()), float(np.abs(model.get_weights()[0]).max()),
        ]  # fmt: skip
    return found


def gradients():
    found, (x, y) = {}, models.data(samples=22)
    for name, optimizer in {
        "sgd": sgd,
        "loss scale": lambda: keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=4.0),
    }.items():
        model = build(optimizer=optimizer)
        statistics = ("last_gradient", "movement")
        trackers = attachment(model).track("test", ap.sites.find(model).sites, statistics)
        fit(model, [], epochs=2, shuffle=False)
        weights = [w.astype("float64") for w in model.get_weights()]
        batches = models.batches((x, y))
        right = [models.gradients(*batch, weights[::2], weights[1::2]) for batch in batches]
        found[name] = []
        for i, tracker in enumerate(trackers.values()):
            seen = tracker.read()
            moved = -2 * sum(gradient[i][0] for gradient in right) * weights[2 * i]
            found[name].append([
                float(np.abs(seen["last_gradient"] - right[-1][i][0]).max()),
                float(np.abs(seen["movement"] - moved).max()), float(np.abs(moved).max()),
            ])  # fmt: skip
    return found


def movement():
    """The masks on all devices and on one: gradients are equal to rounding, learning rate 0."""
    model, found = build(), []
    weights = model.get_weights()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "movement")
    fit(model, [pruner], epochs=2, shuffle=False)
    several = [mask.tolist() for mask in pruner.masks().values()]
    found.append(alike(model, pruner.masks()))
    with on(None):
        model = models.compiled(models.mlp(), sgd())
        model.set_weights(weights)
        fit(model, [pruner], epochs=2, shuffle=False)
    return [*found, several, [mask.tolist() for mask in pruner.masks().values()]]


def regrowth():
    found = []
    for rule in ("set", ap.regrowth.RigL(0.5, decay="constant")):
        model = build(optimizer=adam)
        pruner = ap.PruningCallback(ap.schedules.Constant(0.5), "random", regrow=rule)
        history = fit(model, [pruner])
        pairs = zip(pruner.masks().values(), "ab", strict=True)
        copies = [(replicas(model.get_layer(name).kernel), mask) for mask, name in pairs]
        revived = [bool(copy[~mask].any()) for both, mask in copies for copy in both]
        same = [bool((both[0] == both[1]).all()) for both, _ in copies]
        found.append([history["sparsity"], int(pruner.table()["grown"].sum()), revived, same])
    return found


def units():
    """Silenced units and the logger; then saved, loaded on all devices, and trained on."""
    model = build(optimizer=lambda: sgd(0.1, momentum=0.9))
    schedule = ap.schedules.Polynomial(0.5, **SCHEDULE)
    pruner = ap.PruningCallback(schedule, allocation="uniform", granularity="unit")
    logger = ap.SpectrumLogger()
    fit(model, [pruner, logger], epochs=5)
    model.save("units.keras")
    with scope():
        loaded = keras.models.load_model("units.keras")
    history = fit(loaded, [ap.KeepPruned(exclude=["out"])])
    values = logger.table().query("moment == 'epoch' and epoch == 5 and layer == 'a'")
    found = {
        "energy": [float((values["value"] ** 2).sum()),
                   float((model.get_weights()[0].astype("float64") ** 2).sum())],
        "moments": sorted(set(logger.table()["moment"])),
        "sparsity": [history["sparsity"][-1], float(models.pruned(model, "a", "b"))],
        "small": ap.compact(loaded).get_layer("a").units,
    }  # fmt: skip
    for name, trained in (("fit", model), ("loaded", loaded)):
        found[name] = [alike(trained, pruner.masks())]
        for layer in map(trained.get_layer, "ab"):
            dead = ~layer.kernel.numpy().any(axis=0)
            silent = [not bias[dead].any() for bias in replicas(layer.bias)]
            found[name].append([int(dead.sum()), bool(all(silent)), bool(layer.bias.numpy().any())])
    return found


def uneven():
    """A last batch of one sample for two devices: [counts, oracle] or what Keras says."""
    model, counter = build(), ap.ActivationCounter(exclude=["out"])
    try:
        fit(model, [counter], samples=17, epochs=1)
    except ValueError as error:
        fit(model, [counter], samples=16, epochs=1)  # nothing is left of the `fit` that died
        return [sums(counter.table()), oracle(model, 16), str(error)]
    return [sums(counter.table()), oracle(model, 17), ""]


def model_parallel():
    """Kernels that are spread over devices, with masks and gradients beside them (JAX)."""
    if not JAX:
        return None
    mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"])
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*a/kernel"] = (None, "model")
    found = []
    with on(keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")):
        model, counter = models.compiled(models.mlp(), sgd()), ap.ActivationCounter(exclude=["out"])
        fit(model, [counter], epochs=1)
        found += [sums(counter.table()), oracle(model)]
        model, shapes = models.compiled(models.mlp(), adam()), []
        look = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: shapes.append(
                [replicas(v)[0].shape for v in model.variables if v.shape == (6, 8)]
            )
        )
        pruner = ap.PruningCallback(ap.schedules.Polynomial(0.5, **SCHEDULE), "movement")
        history = fit(model, [pruner, look])
        kept = replicas(model.get_layer("a").kernel)
        mask = next(iter(pruner.masks().values()))
        found += [history["sparsity"][-1], bool(((np.hstack(kept) != 0) == mask).all()), shapes[-1]]
    return found


def processes():
    """One of several processes that train together, each with its share of the data."""
    index, count = map(int, sys.argv[1:3])
    mine = slice(index, None, count)
    x, y = models.data(samples=24)
    model, counter = build(), ap.ActivationCounter(exclude=["out"])
    model.fit(x[mine], y[mine], batch_size=4, verbose=0, callbacks=[counter])
    hidden = np.maximum(x @ model.get_weights()[0] + model.get_weights()[1], 0)
    found = [sums(counter.table())[0][1:], (hidden > 0).sum(0).astype(float).tolist()]
    model = build(optimizer=adam)
    pruner = ap.PruningCallback(ap.schedules.Polynomial(0.5, **SCHEDULE))
    history = model.fit(
        x[mine], y[mine], batch_size=4, epochs=4, verbose=0, callbacks=[pruner]
    ).history
    kernels = [model.get_layer(name).kernel.numpy().tolist() for name in "ab"]
    return [*found, history["sparsity"][-1], alike(model, pruner.masks()), kernels]


if __name__ == "__main__":
    scope = start()
    keras.utils.set_random_seed(0)
    alone = counts, single_device, masks, gradients, movement, regrowth, units, uneven
    checks = (processes,) if len(sys.argv) > 1 else (*alone, model_parallel)
    print(json.dumps({check.__name__: check() for check in checks}))
