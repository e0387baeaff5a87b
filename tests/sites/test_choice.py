"""Which sites are meant: by name, pattern and layer, by default, and by granularity."""

import keras
import numpy as np
import pytest
from chosen_sites import Mlp, built, names, sequential, skipped
from keras import layers

import activation_pruning as ap
from activation_pruning import sites

pytestmark = pytest.mark.lowest


def _three():
    return sequential(
        layers.Dense(5, name="conv_a"), layers.Dense(5, name="conv_b"), layers.Dense(2, name="out")
    )


def test_include_and_exclude_by_name_pattern_and_layer():
    model = _three()
    assert names(model) == ["conv_a/kernel", "conv_b/kernel"]
    assert names(model, exclude=()) == ["conv_a/kernel", "conv_b/kernel", "out/kernel"]
    assert names(model, include="conv_a") == ["conv_a/kernel"]
    assert names(model, include=["conv_*"]) == ["conv_a/kernel", "conv_b/kernel"]
    assert names(model, include=model.layers[-1]) == ["out/kernel"]
    assert names(model, include=["conv_a/kernel"]) == ["conv_a/kernel"]
    assert names(model, exclude=["conv_b"]) == ["conv_a/kernel"]
    assert names(model, exclude=model.layers[0]) == ["conv_b/kernel"]
    assert names(model, include="conv_*", exclude="*_b") == ["conv_a/kernel"]
    assert names(model, include="*", exclude="*_b") == ["conv_a/kernel", "out/kernel"]


def test_include_takes_a_nested_model_by_name_or_object():
    inner = sequential(layers.Dense(5, name="a"), layers.Dense(5, name="b"))
    inner.name = "encoder"
    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(2, name="out")(inner(x)))
    assert names(model, include="encoder") == ["encoder/a/kernel", "encoder/b/kernel"]
    assert names(model, include=[inner]) == ["encoder/a/kernel", "encoder/b/kernel"]
    assert names(model, include="*", exclude="encoder") == ["out/kernel"]
    assert names(model, include="encoder/b") == ["encoder/b/kernel"]


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_unknown_names_raise_with_the_closest_match(argument):
    with pytest.raises(ValueError, match=rf"{argument}='conv_aa'.*Did you mean 'conv_a'"):
        sites.find(_three(), **{argument: ["conv_aa"]})
    for wrong in ([3], 3, [None]):
        with pytest.raises(TypeError, match=f"{argument}=(3|None); it takes names, patterns"):
            sites.find(_three(), **{argument: wrong})


# -- output layers -------------------------------------------------------------------------


def test_output_layer_is_found_behind_an_activation():
    model = sequential(layers.Dense(4, name="a"), layers.Dense(2, name="b"), layers.Softmax())
    assert names(model) == ["a/kernel"]
    model = sequential(
        layers.Dense(4, name="a"), layers.Dense(2, name="b"), layers.Activation("softmax")
    )
    assert names(model) == ["a/kernel"]


def test_every_output_of_several_is_left_out():
    x = keras.Input((6,))
    hidden = layers.Dense(5, name="hidden")(x)
    one, two = layers.Dense(2, name="one")(hidden), layers.Dense(1, name="two")(hidden)
    model = keras.Model(x, {"one": one, "two": two})
    assert names(model) == ["hidden/kernel"]


def test_summed_outputs_are_all_left_out():
    x = keras.Input((6,))
    hidden = layers.Dense(5, name="hidden")(x)
    total = layers.Add()([layers.Dense(2, name="one")(hidden), layers.Dense(2, name="two")(x)])
    assert names(keras.Model(x, total)) == ["hidden/kernel"]


def test_a_shared_layer_without_weights_ends_only_where_it_is_called_last():
    x, dropout = keras.Input((6,)), layers.Dropout(0.1)
    hidden = dropout(layers.Dense(5, name="hidden")(x))
    assert names(keras.Model(x, dropout(layers.Dense(2, name="out")(hidden)))) == ["hidden/kernel"]


def test_nested_head_leaves_out_its_last_layer_only():
    head = sequential(layers.Dense(4, name="a"), layers.Dense(2, name="b"), shape=(5,))
    head.name = "head"
    x = keras.Input((6,))
    model = keras.Model(x, layers.Softmax()(head(layers.Dense(5, name="body")(x))))
    assert names(model) == ["body/kernel", "head/a/kernel"]


def test_nested_subclassed_head_leaves_out_its_last_layer_only():
    x = keras.Input((6,))
    model = keras.Model(x, Mlp(name="mlp")(layers.Dense(4, name="body")(x)))
    assert names(model) == ["body/kernel", "mlp/block_0/kernel", "mlp/block_1/kernel"]


def test_bidirectional_output_is_left_out_in_both_directions():
    model = sequential(
        layers.Dense(4, name="a"), layers.Bidirectional(layers.LSTM(2)), shape=(3, 4)
    )
    assert names(model) == ["a/kernel"]


def test_a_sequential_without_a_static_graph_is_found():
    model = keras.Sequential([layers.Dense(4, name="a"), layers.Dense(2, name="b")])
    assert names(built(model, 1, 3)) == ["a/kernel"]


# -- what exclude adds to ------------------------------------------------------------------


def test_what_is_excluded_adds_to_what_is_left_out_by_default():
    model = _three()
    assert skipped(model, exclude=["conv_a"]) == {
        "conv_a": "excluded", "out": "output layer (excluded by default)",
    }  # fmt: skip
    assert names(model, exclude=[]) == ["conv_a/kernel", "conv_b/kernel", "out/kernel"]
    assert names(model, include=["conv_a", "out"]) == ["conv_a/kernel", "out/kernel"]
    assert names(model, include=["conv_a", "out"], exclude="conv_a") == ["out/kernel"]
    with pytest.raises(ValueError, match=r"no prunable layers left \(conv_a, conv_b: excluded"):
        sites.find(model, exclude="conv*")


def test_who_looks_at_everything_leaves_out_what_it_is_told_and_no_more():
    model = _three()
    found = sites.find_all(model, exclude="conv_a").sites
    assert [site.path for site in found] == ["conv_b", "out"]
    assert ap.analysis.norms(model, exclude="conv_a")["layer"].tolist() == ["conv_b", "out"]
    assert ap.analysis.norms(model, exclude=None)["layer"].tolist() == ["conv_a", "conv_b"]
    assert list(ap.analysis.matrices(model, exclude="conv_a")) == ["conv_b/kernel", "out/kernel"]


def test_what_cannot_be_pruned_may_be_excluded_and_says_why_it_is_not_included():
    model = _three()
    model.layers[0].quantize("int8")
    assert names(model, exclude="conv_a") == ["conv_b/kernel"]
    with pytest.raises(ValueError, match=r"include='conv_a'.*cannot be pruned: quantised to int8"):
        sites.find(model, include="conv_a")


def test_messages_stay_short_for_many_layers():
    model = sequential(*(layers.Dense(2, name=f"layer_{i}") for i in range(300)))
    with pytest.raises(ValueError, match="and 290 more") as raised:
        sites.find(model, include="nobody")
    assert len(str(raised.value)) < 400
    model.trainable = False
    with pytest.raises(ValueError, match="and 294 more: frozen") as raised:
        sites.find(model)
    assert len(str(raised.value)) < 500


# -- brackets ------------------------------------------------------------------------------


def _bracketed():
    names = ("conv[0]", "conv0", "block[1]_a", "out")
    return sequential(*(layers.Dense(3, name=name) for name in names))


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_a_name_with_brackets_matches_itself(argument):
    model = _bracketed()
    chosen = {"conv[0]": ["conv[0]"], "block[1]*": ["block[1]_a"], "conv[01]": ["conv0"]}
    everything = {"conv[0]", "conv0", "block[1]_a"}
    for wanted, expected in chosen.items():
        found = {site.path for site in sites.find(model, **{argument: [wanted]}).sites}
        assert found == (set(expected) if argument == "include" else everything - set(expected))


def test_an_exact_name_wins_over_a_pattern():
    model = sequential(layers.Dense(3, name="*"), layers.Dense(3, name="a"), layers.Dense(2))
    assert names(model, include="*") == ["*/kernel"]
    assert names(model, include="?") == ["*/kernel", "a/kernel"]


# -- what is frozen ------------------------------------------------------------------------

FROZEN = "frozen, trainable=False (excluded by default)"


def test_a_frozen_layer_is_left_out_and_listed_unless_it_is_named():
    model = _three()
    model.layers[0].trainable = False
    assert names(model) == ["conv_b/kernel"]
    assert skipped(model)["conv_a"] == FROZEN
    assert names(model, include="conv_a") == ["conv_a/kernel"]
    assert names(model, exclude=()) == ["conv_a/kernel", "conv_b/kernel", "out/kernel"]
    before = model.layers[0].get_weights()[0]
    report = ap.prune(model, 0.8)
    assert (model.layers[0].get_weights()[0] == before).all()
    assert (model.layers[1].get_weights()[0] == 0).sum() == 20  # of 25
    assert report.table().set_index("layer").loc["conv_a", "note"] == f"not pruned: {FROZEN}"


def test_a_frozen_variable_backbone_and_teacher_are_left_out():
    model = _three()
    model.layers[0].kernel.trainable = False
    assert names(model) == ["conv_b/kernel"]
    backbone = sequential(layers.Dense(5, name="a"), layers.Dense(4, name="b"))
    backbone.name, backbone.trainable = "backbone", False
    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(2)(layers.Dense(5, name="neck")(backbone(x))))
    assert names(model) == ["neck/kernel"]
    assert skipped(model)["backbone/a"] == skipped(model)["backbone/b"] == FROZEN
    assert names(model, include=backbone) == ["backbone/a/kernel", "backbone/b/kernel"]

    class Distilling(keras.Model):
        def __init__(self, student, teacher):
            super().__init__()
            self.student, self.teacher = student, teacher
            teacher.trainable = False

        def call(self, x):
            return self.student(x)

    teacher = sequential(layers.Dense(9, name="deep"), layers.Dense(2, name="logits"))
    student = _three()
    teacher.name, student.name = "teacher", "student"
    both = built(Distilling(student, teacher), 1, 6)
    assert all(name.startswith("student/") for name in names(both))


def test_a_model_that_is_frozen_as_a_whole_says_what_to_do():
    model = _three()
    model.trainable = False
    with pytest.raises(ValueError, match=r"conv_a, conv_b: frozen, trainable=False.*include="):
        ap.prune(model, 0.5)
    assert names(model, include="conv*") == ["conv_a/kernel", "conv_b/kernel"]


# -- what a granularity cannot divide --------------------------------------------------------


def _cnn(channels):
    return sequential(
        layers.Conv2D(8, 3, name="first"), layers.Conv2D(8, 3, name="second"),
        layers.Flatten(), layers.Dense(3, name="out"), shape=(8, 8, channels),
    )  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
def test_two_of_four_leaves_out_and_lists_what_four_does_not_divide(channels):
    model = _cnn(channels)
    first = model.layers[0].get_weights()[0]
    report = ap.prune(model, granularity="2:4")
    assert (model.layers[0].get_weights()[0] == first).all()
    second = np.moveaxis(model.layers[1].get_weights()[0], 2, -1).reshape(-1, 4)
    assert ((second != 0).sum(axis=1) == 2).all()
    assert report.sparsity == 0.5
    note = report.table().set_index("layer").loc["first", "note"]
    assert note == f"not pruned: 2:4 granularity needs an input axis that 4 divides, got {channels}"


def test_two_of_four_that_fits_nowhere_is_refused():
    with pytest.raises(ValueError, match=r"no prunable layers left .*first: 2:4 .*got 3"):
        ap.prune(_cnn(3), granularity="2:4", include="first")


def test_a_granularity_of_ones_own_may_refuse_kernels():
    class Rows(ap.masks.Granularity):
        def refusal(self, shape, input_axis):
            return "it has one row" if shape[input_axis] == 1 else ""

        def items(self, site, scores):
            return ap.allocations.Items(scores.mean(1), site.mask.sum(1), site.mask.any(1))

        def expand(self, site, scores, chosen):
            return np.repeat(chosen[:, None], site.kernel.shape[1], axis=1)

    model = sequential(layers.Dense(4, name="a"), layers.Dense(4, name="b"), shape=(1,))
    table = ap.prune(model, 0.5, granularity=Rows(), exclude=()).table().set_index("layer")
    assert table.loc["a", "note"] == "not pruned: it has one row"
    assert table.loc["b", "pruned"] == 8


@pytest.mark.backend
def test_a_callback_lists_what_it_leaves_out():
    model = _cnn(1)
    model.compile("sgd", "mse")
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "magnitude", granularity="2:4")
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 1))
    model.fit(x, np.ones((8, 3)), verbose=0, callbacks=[pruner])
    assert pruner.table()["layer"].tolist() == ["second"]
    assert dict(pruner.left_out().values.tolist()) == {
        "out": "output layer (excluded by default)",
        "first": "2:4 granularity needs an input axis that 4 divides, got 1",
    }
