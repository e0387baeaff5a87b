"""NuclearNorm: value, gradient and start, on whatever backend runs the tests."""

import keras
import models
import numpy as np
import pytest
from keras import ops

from activation_pruning.regularizers import NuclearNorm, Starter

pytestmark = pytest.mark.backend


def gradient(penalty, kernel):
    """d penalty / d kernel, by the backend's own means."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.Variable(kernel)
        with tf.GradientTape() as tape:
            value = penalty(x)
        return tape.gradient(value, x).numpy()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(penalty)(kernel))
    import torch

    x = torch.tensor(kernel, requires_grad=True)
    penalty(x).backward()
    return x.grad.numpy()


def matrix(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (1, 3), (30, 20), (3, 3, 2, 5)])
@pytest.mark.parametrize("weighting", ["none", "index"])
def test_value_and_gradient_are_those_of_the_svd(shape, weighting):
    kernel = matrix(*shape)
    flat = kernel.reshape(-1, shape[-1]).astype("float64")
    u, values, v = np.linalg.svd(flat, full_matrices=False)
    weights = np.arange(1, len(values) + 1) if weighting == "index" else np.ones(len(values))
    penalty = NuclearNorm(0.5, weighting)
    assert float(penalty(kernel)) == pytest.approx(0.5 * (weights * values).sum(), rel=1e-5)
    wanted = 0.5 * (u * weights @ v).reshape(shape)
    np.testing.assert_allclose(gradient(penalty, kernel), wanted, atol=1e-4 * weights.max())


def test_the_gradient_is_that_of_finite_differences():
    kernel, step = matrix(5, 4), 1e-2
    found = gradient(NuclearNorm(1.0), kernel)
    for i, j in [(0, 0), (2, 3), (4, 1)]:
        moved = [kernel.astype("float64").copy() for _ in range(2)]
        moved[0][i, j] += step
        moved[1][i, j] -= step
        up, down = (np.linalg.norm(m, "nuc") for m in moved)
        assert found[i, j] == pytest.approx((up - down) / (2 * step), abs=1e-3)


@pytest.mark.parametrize(
    "kernel",
    [
        np.zeros((4, 3), "float32"),
        np.eye(4, dtype="float32"),
        np.diag([2.0, 2.0, 1.0, 0.0]).astype("float32"),
        np.outer(np.arange(1, 5), np.arange(1, 4)).astype("float32"),
        1e-30 * np.eye(3, dtype="float32"),
    ],
)
@pytest.mark.parametrize("weighting", ["none", "index"])
def test_gradients_are_finite_where_the_norm_is_not_smooth(kernel, weighting):
    found = gradient(NuclearNorm(1.0, weighting), kernel)
    assert np.isfinite(found).all()
    assert np.linalg.norm(found, 2) <= (1 if weighting == "none" else len(kernel)) + 1e-4


def test_a_rank_one_kernel_is_pressed_along_its_one_direction():
    kernel = np.outer([3.0, 4.0], [1.0, 0.0, 0.0]).astype("float32")
    wanted = np.outer([0.6, 0.8], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(gradient(NuclearNorm(1.0), kernel), wanted, atol=1e-5)


def trained(penalty, epochs=1, callbacks=(), **kwargs):
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(8, "relu", name="a", kernel_regularizer=penalty)
    model = keras.Sequential([keras.Input((6,)), dense, keras.layers.Dense(3, "softmax")])
    kwargs |= {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    model.compile(keras.optimizers.SGD(0.1), **kwargs)
    x, y = models.data()
    history = model.fit(x, y, epochs=epochs, verbose=0, callbacks=list(callbacks))
    return model, history.history


@pytest.fixture
def no_jit():
    return {"jit_compile": False} if keras.backend.backend() == "tensorflow" else {}


def test_training_lowers_the_norm(no_jit):
    norms = [
        np.linalg.norm(trained(penalty, 20, **no_jit)[0].layers[0].get_weights()[0], "nuc")
        for penalty in (None, NuclearNorm(0.2))
    ]
    assert norms[1] < 0.8 * norms[0]


def test_an_epoch_to_start_at(no_jit):
    plain = trained(None, 3, **no_jit)[0].get_weights()[0]
    penalty = NuclearNorm(0.05, start_when=2)
    kernels = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            kernels.append(self.model.get_weights()[0])

    model, _ = trained(penalty, 4, [Keep(), Starter()], **no_jit)
    np.testing.assert_allclose(kernels[1], trained(None, 2, **no_jit)[0].get_weights()[0])
    assert np.abs(kernels[2] - plain).max() > 1e-3
    assert penalty.active
    assert "_activation_pruning" not in vars(model)


def test_an_accuracy_to_start_at(no_jit):
    penalty = NuclearNorm(0.05, start_when=0.999)
    trained(penalty, 1, [Starter()], **no_jit)
    assert not penalty.active
    early = NuclearNorm(0.05, start_when=0.01)
    trained(early, 1, [Starter()], **no_jit)
    assert early.active
    with pytest.raises(ValueError, match="monitor='auc' is not among"):
        trained(NuclearNorm(0.05, start_when=0.5), 1, [Starter("auc")], **no_jit)


def test_what_never_starts_says_so(no_jit):
    with pytest.warns(UserWarning, match="does nothing yet: add"):
        trained(NuclearNorm(0.05, start_when=1), **no_jit)
    with pytest.raises(ValueError, match="no NuclearNorm"):
        trained(NuclearNorm(0.05), 1, [Starter()], **no_jit)


def test_saved_and_loaded(tmp_path, no_jit):
    model, _ = trained(NuclearNorm(0.05, "index", start_when=0.5), 1, [Starter()], **no_jit)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras").layers[0].kernel_regularizer
    assert loaded.get_config() == {"strength": 0.05, "weighting": "index", "start_when": 0.5}
    again = keras.regularizers.deserialize(keras.regularizers.serialize(loaded))
    assert isinstance(again, NuclearNorm)


def test_short_dtypes_are_computed_in_float32():
    kernel = ops.cast(matrix(4, 3), "bfloat16")
    exact = np.linalg.norm(np.asarray(ops.convert_to_numpy(ops.cast(kernel, "float32"))), "nuc")
    assert float(NuclearNorm(1.0)(kernel)) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"strength": -1},
        {"strength": float("nan")},
        {"strength": "a"},
        {"weighting": "log"},
        {"start_when": 1.5},
        {"start_when": -1},
        {"start_when": "later"},
        {"start_when": 0.0},
    ],
)
def test_bad_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name}="):
        NuclearNorm(**arguments)


def test_validation_sees_the_penalty_as_soon_as_training_does(no_jit):
    keras.utils.set_random_seed(0)
    penalty = NuclearNorm(10.0, start_when=1)
    dense = keras.layers.Dense(8, kernel_regularizer=penalty)
    model = keras.Sequential([keras.Input((6,)), dense, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse", **no_jit)
    x, y = models.data()
    history = model.fit(
        x, y, epochs=2, validation_data=(x, y), verbose=0, callbacks=[Starter()]
    ).history
    assert history["loss"][1] > history["loss"][0] + 1
    assert history["val_loss"][1] == pytest.approx(history["loss"][1], rel=1e-4)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(history["loss"][1], rel=1e-4)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    assert float(sum(copy.losses)) == pytest.approx(float(sum(model.losses)), rel=1e-5)


def test_recurrent_layers_and_resumed_trainings(no_jit):
    keras.utils.set_random_seed(0)
    penalty = NuclearNorm(10.0, start_when=2)
    layer = keras.layers.LSTM(5, kernel_regularizer=penalty)
    model = keras.Sequential([keras.Input((3, 4)), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse", **no_jit)
    x, y = np.ones((4, 3, 4)), np.ones((4, 1))
    arguments = {"initial_epoch": 3, "epochs": 4, "verbose": 0}
    history = model.fit(x, y, callbacks=[Starter()], **arguments).history
    assert history["loss"][0] > 10
