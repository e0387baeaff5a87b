"""What is said of a pruning: one denominator everywhere, by hand from the weights."""

import keras
import models
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap
from activation_pruning import sites


def network():
    keras.utils.set_random_seed(1)
    return models.compiled(models.mlp(hidden=(8, 5), features=6))


def share(model, *names):
    """Zeros / weights of the kernels of these layers."""
    kernels = [model.get_layer(name).get_weights()[0] for name in names]
    return sum((k == 0).sum() for k in kernels) / sum(k.size for k in kernels)


def kept(model, **options):
    x, y = models.data()
    fit = model.fit(x, y, epochs=2, verbose=0, callbacks=[ap.KeepPruned(**options)])
    return fit.history["sparsity"]


# Which layers are pruned, and so counted.
CHOICES = {
    "default": ({}, ("a", "b")),
    "everything": ({"exclude": ()}, ("a", "b", "out")),
    "excluded": ({"exclude": "b"}, ("a",)),
    "included": ({"include": ["b", "out"]}, ("b", "out")),
}


@pytest.mark.backend
@pytest.mark.parametrize("choice", CHOICES)
def test_the_next_fit_counts_the_layers_that_were_pruned(choice):
    options, counted = CHOICES[choice]
    model = network()
    report = ap.prune(model, 0.7, **options)
    assert report.sparsity == pytest.approx(share(model, *counted))
    assert kept(model) == pytest.approx([share(model, *counted)] * 2)
    assert report.sparsity == pytest.approx(0.7, abs=0.01)


@pytest.mark.backend
@pytest.mark.parametrize("choice", CHOICES)
def test_a_fit_after_a_pruning_fit_counts_the_same_layers(choice):
    options, counted = CHOICES[choice]
    model, (x, y) = network(), models.data()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.7, at=1), "magnitude", **options)
    found = model.fit(x, y, epochs=2, verbose=0, callbacks=[pruner]).history["sparsity"]
    assert found[-1] == pytest.approx(share(model, *counted))
    assert kept(model) == pytest.approx([found[-1]] * 2)
    assert pruner.table()["total_sparsity"].iloc[-1] == pytest.approx(found[-1])


def test_a_loaded_model_and_a_greater_one_count_what_is_pruned_by_default(tmp_path):
    model = network()
    report = ap.prune(model, 0.7)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert kept(loaded) == pytest.approx([report.sparsity] * 2)
    x = keras.Input((6,))
    greater = models.compiled(keras.Model(x, layers.Dense(3, name="top")(model(x))))
    assert kept(greater) == pytest.approx([report.sparsity] * 2)


def test_a_model_of_an_output_layer_alone_is_counted():
    model = models.compiled(models.mlp(hidden=()))
    ap.prune(model, 0.5, exclude=())
    assert kept(model) == [0.5, 0.5]


def test_both_denominators_are_named():
    model = network()
    report = ap.prune(model, 0.5)
    text = str(report)
    assert text.startswith("44 of 88 prunable weights pruned: 50.00% (target 50.00%)\n")
    everything = share(model, "a", "b", "out")
    assert f"Of all 103 weights in kernels, those left out included, {everything:.2%}" in text
    assert "left out included" not in str(ap.prune(model, 0.6, exclude=()))


def test_a_kernel_of_zeros_counts_alike_for_target_and_report():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(100, kernel_initializer="zeros", name="fresh"),
            layers.Dense(5, name="a"),
            layers.Dense(2, name="out"),
        ]
    )
    report = ap.prune(model, 0.5)
    table = report.table().set_index("layer")
    assert report.sparsity == 0.5
    assert table.loc["fresh", "pruned"] + table.loc["a", "pruned"] == 650
    assert table.loc["a", "pruned"] == (model.get_layer("a").get_weights()[0] == 0).sum()
    assert "fresh: nothing but zeros" in report.notes
    untouched = ap.prune(model, 0.5, include="a")
    assert "nothing but zeros" not in untouched.notes
    assert untouched.sparsity == 0.5


@pytest.mark.backend
def test_a_kernel_of_zeros_counts_alike_in_a_fit():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(9, kernel_initializer="zeros", name="fresh")]
    )
    model.add(layers.Dense(3, "softmax", name="out"))
    models.compiled(model, keras.optimizers.SGD(0.0))
    x, y = models.data()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "magnitude", exclude=())
    model.fit(x, y, epochs=1, verbose=0, callbacks=[pruner])
    assert pruner.table()["total_sparsity"].tolist() == [41 / 81] * 2


def test_a_target_below_what_is_pruned_says_that_nothing_was():
    model = network()
    ap.prune(model, 0.5)
    before = model.get_weights()
    with pytest.warns(UserWarning, match="sparser than asked already, so nothing was pruned: 50"):
        report = ap.prune(model, 0.3)
    assert "sparsity=0.3 asks for 30.00%" in report.notes
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.filterwarnings("error::UserWarning")
def test_reaching_a_target_exactly_or_layer_by_layer_is_not_told_as_nothing():
    model = network()
    assert "sparser" not in ap.prune(model, 0.5).notes
    assert "sparser" not in ap.prune(model, 0.5).notes
    model = network()
    ap.prune(model, 0.9, include="a")
    assert "sparser" not in ap.prune(model, 0.5, allocation="uniform").notes


def test_a_printed_report_stays_short_where_much_is_left_out():
    model = keras.Sequential([keras.Input((2,))])
    for number in range(30):
        model.add(layers.Dense(2, name=f"frozen_{number}", trainable=False))
    model.add(layers.Dense(2, name="a"))
    model.add(layers.Dense(2, name="out"))
    report = ap.prune(model, 0.5)
    lines = str(report).splitlines()
    assert len(lines) == 6  # the head, the names of the columns, three rows, the notes
    assert "frozen_0, frozen_1, frozen_2 and 27 more" in lines[-2]
    assert len(report.table()) == 32


def test_masks_and_counters_of_wrappers_are_no_parameters():
    model = network()
    wrapped = ap.wrap(model)
    assert wrapped.count_params() > model.count_params()
    assert sites.parameters(wrapped) == model.count_params()
    assert f"holds {model.count_params():,} parameters" in ap.prune(wrapped, 0.5).notes
    gates = ap.wrap(model, wrapper=ap.L0Layer, penalty=1e-3)
    assert sites.parameters(gates) == gates.count_params()  # gates are learned
    assert ap.analysis.cost(wrapped).total["parameters"] == model.count_params()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: ap.prune(m.layers[0], 0.5), r"received the layer 'a' \(Dense\).*include='a'"),
        (lambda m: ap.scores(m.layers[0], "magnitude"), "received the layer 'a'"),
        (lambda m: ap.prune(m, 0.5, sequential="yes"), "sequential='yes'; it must be True or"),
        (lambda m: ap.prune(m, 0.5, respect_zeros="no"), "respect_zeros='no'; it must be True"),
        (lambda m: ap.n2ps(m, np.ones((4, 6)), inputs="no"), "inputs='no'; it must be True"),
        (lambda m: ap.detach("x"), r"must be a keras\.Model, received 'x' \(str\)"),
        (lambda m: ap.detach(None), r"must be a keras\.Model, received None"),
        (lambda m: ap.prune(keras.Model, 0.5), r"must be a keras\.Model, received the class Model"),
        (lambda m: ap.prune(None, 0.5), r"must be a keras\.Model, received None"),
        (lambda m: ap.compact("m.keras"), r"keras\.saving\.load_model\('m\.keras'\)"),
    ],
)
def test_arguments_of_another_kind_are_told_apart(call, message):
    with pytest.raises(TypeError, match=message):
        call(network())


def test_a_percentage_is_told_as_a_fraction():
    with pytest.raises(ValueError, match=r"received 80; 0\.8 for 80 %"):
        ap.prune(network(), 80)
