"""Prune, retrain, and again."""

import keras
import numpy as np
import pytest
from retrainable import alive, network, samples, scores_of, training, zeros

import activation_pruning as ap


@pytest.fixture(scope="module")
def data():
    return samples()


def test_shares_of_what_is_alive_go_down_to_the_size_asked_for(data):
    model, ups = network(), []
    fit = training(data)

    def watched(model, **more):
        before = zeros(model)
        fit(model, **more)
        ups.append(all((now == then).all() for now, then in zip(zeros(model), before, strict=True)))

    done = ap.iterative_prune(model, watched, lambda m: 1.0, 0.5, until=50, retrain=3, verbose=0)
    table = done.table()
    assert table["weights_alive"].tolist() == [288, 144, 72, 50]  # the last step is cut
    assert table["weights_pruned"].tolist() == [0, 144, 72, 22]
    assert table["epochs_total"].tolist() == [0, 3, 6, 9]
    assert table["compression"].tolist() == [1.0, 2.0, 4.0, 288 / 50]
    assert table["time_total_s"].is_monotonic_increasing
    assert sum(alive(model)) == 50
    assert ups == [True] * 3  # pruned weights stay zeros while it retrains
    assert done.stopped == "50 weights alive, sparsity 0.8264"


def test_a_fixed_number_goes_each_time_and_steps_can_be_limited(data):
    until = ap.Until(steps=3)
    done = ap.iterative_prune(
        network(), training(data), lambda m: 1.0, 30, until, retrain=0, verbose=0
    )
    assert done.table()["weights_pruned"].tolist() == [0, 30, 30, 30]
    assert done.table()["epochs"].tolist() == [0, 0, 0, 0]
    assert done.stopped == "3 steps"


def test_a_bucket_sums_saliencies_anew_in_each_step(data):
    model = network()
    sums = []

    def fit(model, **more):
        pass

    def evaluate(model):
        sums.append(sum(np.abs(np.array(layer.kernel)).sum() for layer in model.layers[:-1]))
        return 1.0

    ap.iterative_prune(
        model, fit, evaluate, ap.amounts.Bucket(4.0), until=ap.Until(steps=3), retrain=0, verbose=0
    )
    lost = -np.diff(sums[::2])
    assert (lost <= 4.0).all()
    assert (lost > 3.8).all()


def test_layers_take_turns(data):
    model = network()
    done = ap.iterative_prune(
        model,
        training(data),
        lambda m: 1.0,
        ap.amounts.InTurn(ap.amounts.Fraction(0.5)),
        ap.Until(steps=3),
        retrain=1,
        verbose=0,
    )
    assert done.table()["weights_alive"].tolist() == [288, 288 - 64, 288 - 64 - 80, 288 - 96 - 80]
    assert alive(model) == [32, 80]


def test_a_layer_without_anything_to_take_passes_its_turn_on(data):
    model = network()
    first, second = (layer.kernel for layer in model.layers[:-1])
    first.assign(np.ones(first.shape))
    small = np.ones(second.shape)
    small[:2, :3] = 0.01
    second.assign(small)
    done = ap.iterative_prune(
        model,
        training(data),
        lambda m: 1.0,
        ap.amounts.InTurn(ap.amounts.Threshold(0.5)),
        retrain=0,
        verbose=0,
    )
    assert done.table()["weights_alive"].tolist() == [288, 282]
    assert done.table()["step"].tolist() == [0, 1]
    assert done.stopped == "InTurn(amount=Threshold(score=0.5)) takes nothing more"


def test_it_stops_below_the_floor_and_keeps_the_two_networks_of_interest(data):
    model = network()
    # dense, then (before, after) retraining of each step
    values = [0.90, 0.5, 0.91, 0.5, 0.895, 0.5, 0.89, 0.5, 0.70]
    done = ap.iterative_prune(
        model, training(data), scores_of(values), 60, ap.Until(metric=0.8), verbose=0
    )
    assert done.table()["metric"].tolist() == [0.90, 0.91, 0.895, 0.89, 0.70]
    assert done.table()["metric_pruned"].tolist() == [0.90, 0.5, 0.5, 0.5, 0.5]
    assert done.stopped == "metric 0.7000 below 0.8"
    assert (done.smallest.step, done.smallest.metric) == (3, 0.89)  # exactly one point is within
    # 60 of 288 are 21 %: from step 3 on it is half or more
    assert (done.most_accurate.step, done.most_accurate.sparsity) == (3, pytest.approx(0.625))
    assert sum(alive(model)) == 288 - 240
    assert sum(alive(done.smallest.restore())) == 288 - 180
    assert model is done.smallest.model


def test_the_most_accurate_is_looked_for_among_the_compressed(data):
    values = [0.9, 0, 0.99, 0, 0.80, 0, 0.85, 0, 0.85]
    done = ap.iterative_prune(
        network(), training(data), scores_of(values), 72, ap.Until(steps=3), verbose=0
    )
    assert done.smallest.step == 1
    assert (done.most_accurate.step, done.most_accurate.metric) == (3, 0.85)
    assert "smallest within 0.01" in str(done)


def test_it_stops_before_a_layer_is_emptied_and_leaves_what_was(data):
    model = network()
    small = model.get_layer("second")
    small.kernel.assign(np.array(small.kernel) * 1e-6)  # all of it would go first
    done = ap.iterative_prune(
        model, lambda model, **more: None, lambda m: 1.0, 100, 0.99, retrain=0, verbose=0
    )
    assert "nothing is emptied" in done.stopped
    assert "second/kernel" in done.stopped
    assert done.table()["weights_alive"].tolist() == [288, 188]
    assert sum(alive(model)) == 188


def test_it_stops_when_the_amount_takes_nothing_more(data):
    done = ap.iterative_prune(
        network(),
        training(data),
        lambda m: 1.0,
        ap.amounts.Threshold(0.0),
        retrain=0,
        verbose=0,
    )
    assert done.stopped == "Threshold(score=0.0) takes nothing more"
    assert done.smallest is None


def test_retraining_goes_on_until_it_is_flat(data):
    model = network()
    policy = ap.retraining.UntilFlat(improvement=10.0, at_most=9, monitor="val_accuracy")
    fit = training(data, validation_data=data)
    done = ap.iterative_prune(
        model, fit, lambda m: 1.0, 60, ap.Until(steps=1), retrain=policy, verbose=0
    )
    assert done.table()["epochs"].tolist() == [0, 2]  # nothing improves by 10


def test_a_criterion_that_looks_at_data_and_whole_units(data):
    model = network()
    done = ap.iterative_prune(
        model,
        training(data),
        lambda m: 1.0,
        ap.amounts.BelowMean(0.5),
        ap.Until(steps=1),
        criterion="activation",
        granularity="unit",
        data=data[0],
        verbose=0,
    )
    kernels = [np.array(layer.kernel) for layer in model.layers[:-1]]
    dead = [np.flatnonzero(~kernel.any(axis=0)) for kernel in kernels]
    assert sum(d.size for d in dead)
    assert sum(alive(model)) == sum(
        k.size - d.size * k.shape[0] for k, d in zip(kernels, dead, strict=True)
    )
    assert done.table()["weights_pruned"].iloc[1] == 288 - sum(alive(model))


def test_a_step_is_told(data, capsys):
    ap.iterative_prune(network(), training(data), lambda m: 0.5, 0.5, ap.Until(steps=1))
    told = capsys.readouterr().out
    assert "step 1: 144 weights alive (50.0%), metric 0.5000 (0.5000 before retraining), 2" in told


def test_on_step_is_told_of_the_dense_network_and_of_each_step(data):
    told = []

    def on_step(model, row):
        told.append((row["step"], sum(alive(model)), row["weights_alive"], row["metric"]))
        return {"test_accuracy": 0.1 * row["step"]} if row["step"] != 1 else None

    values = [0.9, 0.5, 0.8, 0.5, 0.7]
    fit, evaluate = training(data), scores_of(values)
    done = ap.iterative_prune(
        network(), fit, evaluate, 0.5, ap.Until(steps=2), retrain=1, on_step=on_step, verbose=0
    )
    assert told == [(0, 288, 288, 0.9), (1, 144, 144, 0.8), (2, 72, 72, 0.7)]  # after retraining
    table = done.table()
    assert table["test_accuracy"].fillna(-1).tolist() == [0.0, -1, 0.2]
    assert table["metric"].tolist() == [0.9, 0.8, 0.7]


@pytest.mark.parametrize("wrong", [0.9, {"metric": 1.0}, {"time_total_s": 1.0}])
def test_what_on_step_returns_must_be_new_columns(data, wrong):
    with pytest.raises(ValueError, match=r"on_step= returned .*a dict of columns other than"):
        ap.iterative_prune(
            network(), training(data), lambda m: 1.0, on_step=lambda model, row: wrong, verbose=0
        )


def test_arguments_of_prune_are_handed_on_and_others_named(data):
    model = network()
    ap.iterative_prune(
        model,
        training(data),
        lambda m: 1.0,
        0.5,
        ap.Until(steps=1),
        retrain=0,
        criterion="wanda",
        data=data[0],
        include="second",
        sequential=True,
        verbose=0,
    )
    assert alive(model) == [128, 80]
    for call in (ap.iterative_prune, ap.find_sparsity):
        with pytest.raises(TypeError, match=r"unknown argument 'criterium'.*: criterion, alloc"):
            call(model, training(data), lambda m: 1.0, criterium="obd")


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"fit": lambda model, **more: None}, ValueError, "hand them on"),
        ({"evaluate": lambda model: "good"}, ValueError, "evaluate= returned 'good'"),
        ({"evaluate": lambda model: float("nan")}, ValueError, "returned nan: the training"),
        ({"evaluate": lambda model: -float("inf")}, ValueError, "returned -inf: the training"),
        ({"evaluate": "accuracy"}, TypeError, "evaluate='accuracy'; it must be a function"),
        ({"fit": None}, TypeError, "fit=None; it must be a function"),
        ({"on_step": "log"}, TypeError, "on_step='log'; it must be a function"),
        ({"max_loss": -1}, ValueError, "max_loss=-1"),
        ({"min_sparsity": float("nan")}, ValueError, "min_sparsity=nan"),
        ({"until": True}, TypeError, "until=True"),
        ({"retrain": True}, TypeError, "retrain=True"),
        ({"amount": True}, TypeError, "amount=True"),
        ({"until": "end"}, TypeError, "until='end'; give a sparsity"),
        ({"until": 1.5}, ValueError, "sparsity=1.5"),
        ({"amount": "some"}, TypeError, "amount='some'"),
        ({"retrain": -1}, ValueError, "at_most=-1"),
        ({"retrain": "long"}, TypeError, "retrain='long'"),
        ({"criterion": "magnitud"}, ValueError, "magnitude"),
        ({"retrain": ap.retraining.UntilFlat()}, ValueError, "monitor='val_accuracy' is not among"),
        ({"criterion": "synflow", "amount": ap.amounts.Bucket(1)}, ValueError, "in rounds"),
    ],
)
def test_what_cannot_work_is_refused(data, more, error, message):
    how = {"fit": training(data), "evaluate": lambda model: 1.0, "verbose": 0} | more
    with pytest.raises(error, match=message):
        ap.iterative_prune(network(), **how)


def test_another_model_must_not_be_trained(data):
    def fit(model, **more):
        twin = keras.models.clone_model(model)
        twin.compile("sgd", "binary_crossentropy", jit_compile=False)
        return training(data)(twin, **more)

    with pytest.raises(ValueError, match=r"another model than the .* train that one, in place"):
        ap.iterative_prune(network(), fit, lambda model: 1.0, verbose=0)


def test_a_model_may_be_trained_as_a_part_of_a_greater_one(data):
    model = network()
    greater = keras.Sequential([keras.Input((8,)), keras.layers.GaussianNoise(0.1), model])
    greater.compile("sgd", "binary_crossentropy", jit_compile=False)
    fit = training(data)
    done = ap.iterative_prune(
        model, lambda _, **more: fit(greater, **more), lambda model: 1.0, 0.5, until=72, verbose=0
    )
    assert done.table()["weights_alive"].tolist() == [288, 144, 72]
    assert sum(alive(model)) == 72


def test_until_needs_an_end():
    with pytest.raises(ValueError, match=r"Until\(\) stops nowhere"):
        ap.Until()
    with pytest.raises(ValueError, match="weights=0"):
        ap.Until(weights=0)


def test_surgeons_prune_step_by_step(data):
    model = network()
    ap.iterative_prune(
        model, training(data), lambda m: 1.0, 100, 88, criterion="lobs", data=data[0], verbose=0
    )
    assert sum(alive(model)) == 88


def test_the_plan_is_said_before_it_starts(data, capsys):
    until = ap.Until(weights=100, metric=0.5)
    for amount, limit, retrain, told in (
        (25, 99, 2, "8 steps, from 288 weights alive to 99, with up to 2 epochs each: 16 epochs"),
        (0.5, 0.75, 0, "2 steps, from 288 weights alive to 72, with up to 0 epochs each: 0 epochs"),
        (100, until, 1, "2 steps, from 288 weights alive to 100, with up to 1 epochs each: 2 "
         "epochs in all; fewer if the metric falls below 0.5"),
        (ap.amounts.Bucket(4.0), ap.Until(steps=1), 1, "steps of Bucket(saliency=4.0), at most 1,"),
    ):  # fmt: skip
        done = ap.iterative_prune(
            network(), training(data), lambda m: 1.0, amount, limit, retrain=retrain
        )
        plan, first = capsys.readouterr().out.splitlines()[:2]
        assert plan.startswith(f"plan: {told}")
        assert first.startswith("step 1:")
        if "steps," in told:
            assert len(done.table()) - 1 == int(told.split()[0])


def test_numbers_that_are_neither_shares_nor_counts_are_named_as_they_were_given(data):
    for argument in ("amount", "until"):
        with pytest.raises(ValueError, match=rf"{argument}=1\.5.* number of weights is an integer"):
            ap.iterative_prune(network(), training(data), lambda m: 1.0, **{argument: 1.5})


# -- with a teacher ----------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True], ids=["dense", "function"])
def test_the_dense_network_teaches_in_every_retraining(data, own):
    model, given = network(), []
    train, before = training(data), model.get_weights()

    def fit(model, **more):
        given.append(model)
        return train(model, **more)

    def evaluate(found):
        assert found is model  # the plain network, as ever
        return float(found.evaluate(*data, verbose=0, return_dict=True)["accuracy"])

    teacher = "dense"
    if own:
        dense = keras.models.clone_model(model)
        dense.set_weights(before)
        teacher = lambda student: ap.distiller(student, dense, features={"second": "second"})  # noqa: E731
    done = ap.iterative_prune(
        model, fit, evaluate, 0.5, until=72, retrain=2, teacher=teacher, verbose=0
    )
    assert done.table()["weights_alive"].tolist() == [288, 144, 72]
    assert done.table()["epochs"].tolist() == [0, 2, 2]
    assert sum(alive(model)) == 72  # zeros stay zeros while it is taught
    assert all(isinstance(one, keras.distillation.Distiller) for one in given)
    assert [one.student for one in given] == [model] * 2
    assert all((a == b).all() for a, b in zip(before, given[0].teacher.get_weights(), strict=True))
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    assert not any(one.trainable for one in given[0].teacher.layers)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("teach", "teacher='teach'; give a model, 'dense' for a copy"),
        (lambda student: student, "it must return a Distiller around the model"),
    ],
    ids=["name", "function"],
)
def test_a_teacher_is_a_model_a_copy_or_a_function(data, teacher, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ap.iterative_prune(network(), training(data), lambda m: 1.0, teacher=teacher, verbose=0)


def test_the_model_is_not_its_own_teacher(data):
    model = network()
    with pytest.raises(ValueError, match="teacher is the student itself"):
        ap.iterative_prune(model, training(data), lambda m: 1.0, teacher=model, verbose=0)
