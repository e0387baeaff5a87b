"""What XNNPACK's sparse kernels ask of a model, one requirement after the other."""

import keras
import numpy as np
import pytest

import activation_pruning as ap

layers = keras.layers


def first(x):
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, name="first")(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def depthwise(x, size=3, strides=2):
    x = layers.ZeroPadding2D(size // 2)(x)
    return layers.DepthwiseConv2D(size, strides, activation="relu6", name="depthwise")(x)


def model_of(start=first, middle=depthwise, end=None, activation="relu", zeros=0.7):
    inputs = keras.Input((16, 16, 3))
    x = start(inputs)
    y = layers.Conv2D(16, 1, activation=activation, name="a")(middle(x))
    y = layers.Add()([y, layers.Conv2D(16, 1, name="b")(y)])
    y = end(y) if end else layers.GlobalAveragePooling2D(keepdims=True)(y)
    model = keras.Model(inputs, layers.Dense(3, name="out")(layers.Flatten()(y)))
    if zeros:
        ap.prune(model, zeros, include=["a", "b"])
    return model


def rows(model):
    return ap.analysis.sparse_kernels(model).set_index("layer")


def test_a_network_as_in_the_paper_runs_sparse():
    table = rows(model_of())
    assert table.index[table["sparse"]].tolist() == ["a", "b"]
    assert (table.loc[["a", "b"], "reason"] == "").all()
    assert "only 1x1" in table.loc["depthwise", "reason"]
    assert table.loc["out", "reason"] == (
        "not between a first convolution and a global average pooling"
    )
    zeros = np.average(table.loc[["a", "b"], "zeros"], weights=[8, 16])
    assert zeros == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize(("zeros", "sparse"), [(0.66, False), (0.68, True)])
def test_more_than_two_thirds_are_needed(zeros, sparse):
    assert rows(model_of(zeros=zeros)).loc[["a", "b"], "sparse"].tolist() == [sparse, sparse]


@pytest.mark.parametrize(
    "start",
    [
        lambda x: layers.Conv2D(8, 3, strides=2, padding="same", name="first")(x),
        lambda x: layers.Conv2D(8, 3, padding="same", name="first")(x),
        lambda x: layers.Conv2D(8, 5, strides=2, name="first")(layers.ZeroPadding2D(1)(x)),
        lambda x: layers.Conv2D(8, 3, strides=2, name="first")(layers.ZeroPadding2D(2)(x)),
    ],
)
def test_another_first_convolution_has_its_row(start):
    table = rows(model_of(start=start))
    assert not table["sparse"].any()
    assert "ZeroPadding2D(1), then Conv2D(..., 3, strides=2)" in table.loc["first", "reason"]


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (lambda x: layers.MaxPooling2D(name="way")(x), "MaxPooling2D is not among"),
        (lambda x: layers.Conv2D(8, 3, name="way")(x), "must be 1x1"),
        (lambda x: layers.Conv2D(8, 1, strides=2, name="way")(x), "with stride 1"),
        (lambda x: layers.DepthwiseConv2D(3, 2, padding="same", name="way")(x), "for stride 2 by"),
        (lambda x: layers.DepthwiseConv2D(7, padding="same", name="way")(x), "3x3 or 5x5"),
        (lambda x: layers.Activation("gelu", name="way")(x), "'gelu'"),
        (lambda x: layers.UpSampling2D(name="way")(x), "bilinear"),
        (lambda x: layers.Concatenate(name="way")([x, x]), "Concatenate is not among"),
    ],
)
def test_what_is_in_the_way_is_named(middle, message):
    table = rows(model_of(middle=middle))
    assert message in table.loc["way", "reason"]
    assert table.loc["a", "reason"] == "something on the path is in the way, see its row"
    assert not table["sparse"].any()


@pytest.mark.parametrize(
    "middle",
    [
        lambda x: depthwise(x, 5),
        lambda x: depthwise(x, 5, 1),
        lambda x: layers.DepthwiseConv2D(3, padding="same")(x),
        lambda x: layers.UpSampling2D(interpolation="bilinear")(x),
        lambda x: keras.ops.relu(x) * x + 1.0,
        lambda x: layers.Activation("hard_swish")(x),
    ],
)
def test_what_may_be_on_the_path(middle):
    assert rows(model_of(middle=middle))["sparse"].sum() == 2


def test_the_path_ends_in_a_pooling():
    flat = rows(model_of(end=lambda x: layers.GlobalAveragePooling2D(name="end")(x)))
    assert flat.loc["end", "reason"] == "GlobalAveragePooling2D needs keepdims=True"
    assert not flat["sparse"].any()


def test_models_of_any_class():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = model_of()

        def call(self, x):
            return self.inner(x)

    model = Own()
    model(np.ones((1, 16, 16, 3)))
    assert ap.analysis.sparse_kernels(model)["sparse"].sum() == 2
