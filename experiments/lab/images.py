"""Networks for images, LeNet-300-100, LeNet-5 and a small residual one, and their training."""

import math

import keras
import numpy as np

from lab import datasets, network

LARGE = 28  # pixels a side from which on a network has its usual kernels and strides


def load(dataset: str, samples: int | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    """A data set as square images with one channel; `samples` training images drawn by the seed.

    Raises ValueError for samples that are no squares, or more samples than there are.
    """
    arrays = datasets.load(dataset)
    side = math.isqrt(arrays["x_train"].shape[1])
    if side**2 != arrays["x_train"].shape[1]:
        found = arrays["x_train"].shape[1]
        raise ValueError(f"{dataset}: images of {found} pixels are no squares, as needed here")
    shaped = {
        name: values.reshape(-1, side, side, 1) if name.startswith("x") else values
        for name, values in arrays.items()
    }
    return drawn(shaped, dataset, samples, seed)


def drawn(arrays: dict, dataset: str, samples: int | None, seed: int) -> dict[str, np.ndarray]:
    """The data set with so many of its training samples, drawn by the seed; None for all.

    Raises ValueError for more than there are.
    """
    if samples is None:
        return arrays
    size = len(arrays["x_train"])
    if samples > size:
        raise ValueError(f"--samples {samples}: {dataset} has {size} training samples")
    chosen = np.random.default_rng(seed).permutation(size)[:samples]
    return arrays | {name: arrays[name][chosen] for name in ("x_train", "y_train")}


def build(name: str, arrays: dict[str, np.ndarray], settings: dict) -> keras.Model:
    """The compiled network of that name; the seed decides on its starting weights.

    settings: seed, learning_rate (of Adam).
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    shape, classes = arrays["x_train"].shape[1:], int(arrays["y_train"].max()) + 1
    return compiled(NETWORKS[name](shape, classes), settings["learning_rate"])


def compiled(model: keras.Model, learning_rate: float) -> keras.Model:
    """The model, compiled with Adam on the cross-entropy."""
    model.compile(
        keras.optimizers.Adam(learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # XLA on a CPU takes longer to compile than such a network trains
    )
    return model


def copy(model: keras.Model) -> keras.Model:
    """A copy that is not compiled, so that its file has no optimizer in it."""
    plain = type(model).from_config(model.get_config())  # clone_model would compile it as well
    plain.set_weights(model.get_weights())
    return plain


def fit(model, arrays: dict, settings: dict, epochs: int, callbacks=()) -> keras.callbacks.History:
    """Train for some epochs, in an order of samples that the seed decides on.

    settings: seed, batch_size.
    """
    data = arrays["x_train"], arrays["y_train"]
    return network.fit(model, data, settings, epochs, callbacks=list(callbacks))


def lenet_300_100(shape, classes: int, names: str = "dense_{}", **options) -> keras.Model:
    """The multilayer perceptron of LeCun et al. (1998), with ReLU, for images or flat pixels.

    names: of the hidden layers. options: of all Dense layers.
    """
    flat = [keras.layers.Flatten(name="flatten")] if len(shape) > 1 else []
    hidden = [
        keras.layers.Dense(units, "relu", name=names.format(number), **options)
        for number, units in enumerate((300, 100), 1)
    ]
    output = keras.layers.Dense(classes, "softmax", name="output", **options)
    return keras.Sequential([keras.Input(shape), *flat, *hidden, output], name="lenet_300_100")


def lenet_5(shape, classes: int) -> keras.Model:
    """The convolutional network of LeCun et al. (1998), with ReLU and valid padding.

    Images are framed by zeros (28 to 32 pixels), as there. Small ones (digits) have kernels of 3
    by 3 instead of 5 by 5.
    """
    size = 5 if shape[0] >= LARGE else 3
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.ZeroPadding2D(size // 2, name="frame"),
            keras.layers.Conv2D(6, size, activation="relu", name="conv_1"),
            keras.layers.AveragePooling2D(2, name="pool_1"),
            keras.layers.Conv2D(16, size, activation="relu", name="conv_2"),
            keras.layers.AveragePooling2D(2, name="pool_2"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(120, "relu", name="dense_1"),
            keras.layers.Dense(84, "relu", name="dense_2"),
            keras.layers.Dense(classes, "softmax", name="output"),
        ],
        name="lenet_5",
    )


def resnet_8(shape, classes: int, widths=(16, 32, 64)) -> keras.Model:
    """A residual network (He et al., 2016) of three stages with a block each.

    Large images are halved by the first layer already. Projections are convolutions of 2 by 2 and
    stride 2.
    """
    inputs = keras.Input(shape)
    stride = 2 if shape[0] >= LARGE else 1
    x = _normalised(_convolution(widths[0], 3, stride, "stem")(inputs), "stem", active=True)
    for stage, width in enumerate(widths, 1):
        x = _block(x, width, 1 if stage == 1 else 2, f"stage_{stage}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(classes, "softmax", name="output")(x)
    return keras.Model(inputs, outputs, name="resnet_8")


NETWORKS = {"lenet_300_100": lenet_300_100, "lenet_5": lenet_5, "resnet_8": resnet_8}


def _block(x, width, stride, name):
    y = _convolution(width, 3, stride, f"{name}_a")(x)
    y = _normalised(y, f"{name}_a", active=True)
    y = _normalised(_convolution(width, 3, 1, f"{name}_b")(y), f"{name}_b")
    if stride > 1:
        x = _convolution(width, 2, stride, f"{name}_shortcut")(x)
        x = _normalised(x, f"{name}_shortcut")
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([x, y]))


def _convolution(width, size, stride, name):
    return keras.layers.Conv2D(
        width, size, strides=stride, padding="same", use_bias=False, name=name
    )


def _normalised(x, name, active=False):
    # Statistics that a training of some hundred steps can reach.
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu_1")(x) if active else x
