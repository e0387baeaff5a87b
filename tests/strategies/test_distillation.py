"""A teacher teaches a student that is pruned: who is touched, who is not, and what is refused."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import activation_pruning as ap
from activation_pruning.strategies.soft_targets import SoftTargets

_D = keras.layers.Dense


def data(classes=3):
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 6)).astype("float32")
    return x, np.argmax(x[:, :classes], axis=1)


def network(end="softmax", units=3, hidden=8):
    return keras.Sequential(
        [
            keras.Input((6,)),
            _D(hidden, "relu", name="first"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.2),
            _D(5, "relu", name="second"),
            _D(units, end, name="output"),
        ]
    )


def compiled(model, optimizer=None, from_logits=False):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


def student_and_teacher(optimizer=None, end="softmax"):
    teacher = network(end)
    student = compiled(network(end), optimizer, end != "softmax")
    student.set_weights(teacher.get_weights())
    return student, teacher


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
}


class Zeros(keras.callbacks.Callback):
    """What is zero in the student as an epoch ends."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        student = self.model.student  # this callback is none of the package
        self.seen.append([np.array(student.get_layer(n).kernel) == 0 for n in ("first", "second")])


# -- who is touched ----------------------------------------------------------------------------


@pytest.mark.backend
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_student_is_pruned_and_the_teacher_stays_as_it_is(optimizer, tmp_path):
    student, teacher = student_and_teacher(OPTIMIZERS[optimizer]())
    before = [w.copy() for w in teacher.get_weights()]
    taught = ap.distiller(student, teacher, features={"second": "second"})
    schedule = ap.schedules.Linear(0.75, begin=1, end=3)
    pruner, counter, zeros = ap.PruningCallback(schedule), ap.ActivationCounter(), Zeros()
    x, y = data()
    log = ap.EventLog(tmp_path, pruner)
    fit = taught.fit(
        x, y, batch_size=16, epochs=5, verbose=0, callbacks=[pruner, counter, log, zeros]
    )
    assert all((a == b).all() for a, b in zip(before, teacher.get_weights(), strict=True))
    assert fit.history["sparsity"][2:] == [0.75] * 3  # of the student's 88 weights, not of 176
    assert pruner.table()["layer"].unique().tolist() == ["first", "second"]
    assert sum(mask.size for mask in pruner.masks().values()) == 88
    masks = [~mask for mask in pruner.masks().values()]
    for seen in zeros.seen[2:]:
        assert all((mask == zero).all() for mask, zero in zip(masks, seen, strict=True))
    kernels = [np.array(student.get_layer(name).kernel) for name in ("first", "second")]
    assert sum((kernel == 0).sum() for kernel in kernels) == 66
    table = counter.table()
    assert (table["samples"] == 48 * 5).all()  # once in each step, though features are taught
    assert len(table) == 8 + 5 + 3
    (written,) = json.loads((tmp_path / "run.json").read_text())["fits"]
    assert written["model"]["sites"] == {"first/kernel": [6, 8], "second/kernel": [8, 5]}
    assert written["model"]["optimizer"]["name"] == student.optimizer.name


@pytest.mark.backend
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fine_tuning_keeps_zeros_and_what_was_learned_is_a_plain_model(optimizer, tmp_path):
    student, teacher = student_and_teacher(OPTIMIZERS[optimizer]())
    before = [w.copy() for w in teacher.get_weights()]
    x, y = data()
    student.fit(x, y, verbose=0)  # momenta
    ap.prune(student, 0.5, "magnitude")
    zeros, taught = Zeros(), ap.distiller(student, teacher)
    pruned = [np.array(student.get_layer(n).kernel) == 0 for n in ("first", "second")]
    keep = ap.KeepPruned()
    fit = taught.fit(x, y, epochs=3, verbose=0, validation_data=(x, y), callbacks=[keep, zeros])
    assert all((a == b).all() for seen in zeros.seen for a, b in zip(pruned, seen, strict=True))
    assert fit.history["sparsity"] == [0.5] * 3
    assert {"accuracy", "val_accuracy", "student_loss", "distillation_loss"} <= set(fit.history)
    assert all((a == b).all() for a, b in zip(before, teacher.get_weights(), strict=True))
    assert student.optimizer is taught.optimizer
    student.evaluate(x, y, verbose=0)
    student.fit(x, y, verbose=0, callbacks=[ap.KeepPruned()])  # a model as any other
    assert vars(student).keys() & {"_activation_pruning"} == set()
    student.save(tmp_path / "student.keras")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", student.predict(x, verbose=0))
    script = (
        "import sys, keras, numpy as np"
        "\nm = keras.saving.load_model(sys.argv[1] + '/student.keras')"
        "\nx, y = (np.load(f'{sys.argv[1]}/{n}.npy') for n in 'xy')"
        "\nassert np.allclose(m.predict(x, verbose=0), y, atol=1e-6)"
        "\nassert 'activation_pruning' not in sys.modules; m.fit(x, y.argmax(1), verbose=0)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=tmp_path)


@pytest.mark.backend
def test_regrowth_and_gradients_act_on_the_student_alone():
    student, teacher = student_and_teacher(OPTIMIZERS["momentum"]())
    before = [w.copy() for w in teacher.get_weights()]
    x, y = data()
    pruner = ap.PruningCallback(ap.schedules.Constant(0.5, end=3), "random", regrow="rigl")
    fit = ap.distiller(student, teacher).fit(x, y, epochs=4, verbose=0, callbacks=[pruner])
    assert fit.history["sparsity"] == [0.5] * 4
    assert pruner.table()["grown"].sum() > 0
    assert all((a == b).all() for a, b in zip(before, teacher.get_weights(), strict=True))


@pytest.mark.backend
def test_a_fake_quantized_student_learns_and_stays_pruned():
    student, teacher = student_and_teacher()
    x, y = data()
    ap.prune(student, 0.5, "magnitude")
    quantised = ap.fake_quantize(student, data=x)
    rounded = student.predict(x, verbose=0)
    taught = ap.distiller(student, teacher, features={"second": "second"})
    fit = taught.fit(x, y, epochs=2, verbose=0, callbacks=[ap.KeepPruned()])
    assert fit.history["sparsity"] == [0.5] * 2
    assert np.isfinite(fit.history["loss"]).all()
    assert len(quantised.table()) > 0
    assert not np.allclose(rounded, student.predict(x, verbose=0))


def test_other_callbacks_of_the_package_see_the_student():
    student, teacher = student_and_teacher()
    x, y = data()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "magnitude")
    rewind = ap.RewindLearningRate(lambda step: 0.5 / (1 + step), pruner)
    spectra = ap.SpectrumLogger()
    stop = keras.callbacks.EarlyStopping("student_loss", patience=5, mode="min")
    callbacks = [pruner, rewind, spectra, stop]
    fit = ap.distiller(student, teacher).fit(x, y, epochs=3, verbose=0, callbacks=callbacks)
    assert fit.history["learning_rate"][1] == pytest.approx(0.25)
    assert set(spectra.table()["layer"]) == {"first", "second"}


def test_a_metric_that_a_distiller_logs_can_be_watched():
    student, teacher = student_and_teacher()
    x, y = data()
    schedule = ap.schedules.AccuracyTriggered(0.5, 0.9, 2, 0.5, monitor="no_such")
    with pytest.raises(ValueError, match="distillation_loss"):
        ap.distiller(student, teacher).fit(
            x, y, verbose=0, callbacks=[ap.PruningCallback(schedule, "magnitude")]
        )


def test_nothing_finds_sites_in_a_distiller():
    student, teacher = student_and_teacher()
    with pytest.raises(TypeError, match=r"give its student: distiller\.student"):
        ap.prune(ap.distiller(student, teacher), 0.5)


# -- what is learned ---------------------------------------------------------------------------


@pytest.mark.backend
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_probabilities_and_logits_teach_the_same(temperature):
    random = np.random.default_rng(1)
    taught, learned = (random.normal(size=(7, 4)).astype("float32") for _ in range(2))
    keras_own = keras.distillation.LogitsDistillation(temperature, keras.losses.KLDivergence())
    expected = float(keras_own.compute_loss(ops.array(taught), ops.array(learned)))

    def loss(teacher_logits, student_logits):
        soft = SoftTargets(temperature, ("softmax", teacher_logits), ("softmax", student_logits))
        ends = ((taught, teacher_logits), (learned, student_logits))
        outputs = (ops.array(z) if logits else ops.softmax(ops.array(z)) for z, logits in ends)
        return float(soft.compute_loss(*outputs))

    found = [loss(a, b) for a in (True, False) for b in (True, False)]
    assert found == pytest.approx([expected] * 4, rel=1e-3)


@pytest.mark.backend
def test_the_outputs_of_a_sigmoid_are_two_classes_each():
    z = np.array([[0.5, -1.0], [2.0, 3.0]], "float32")
    w = np.array([[0.0, 1.0], [-2.0, 0.5]], "float32")
    p, q = (1 / (1 + np.exp(-one / 2)) for one in (z, w))
    expected = 4 * np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    for logits in (True, False):
        soft = SoftTargets(2.0, ("sigmoid", logits), ("sigmoid", logits))
        ends = (ops.array(one) if logits else ops.sigmoid(ops.array(one)) for one in (z, w))
        assert float(soft.compute_loss(*ends)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.backend
def test_a_certain_teacher_of_probabilities_gives_finite_losses():
    soft = SoftTargets(1.0, ("softmax", False), ("softmax", False))
    outputs = ops.array([[1.0, 0.0]]), ops.array([[0.0, 1.0]])
    assert 40 < float(soft.compute_loss(*outputs)) < 50


@pytest.mark.backend
@pytest.mark.parametrize("ends", [("softmax", None), (None, "softmax")], ids=str)
def test_a_student_of_another_ending_becomes_its_teacher(ends):
    teacher = network(ends[0])
    student = compiled(network(ends[1]), keras.optimizers.Adam(0.05), ends[1] is None)
    x, y = data()
    before = teacher.predict(x, verbose=0)
    taught = ap.distiller(student, teacher, temperature=2.0, student_loss_weight=0.0)
    history = taught.fit(x, y, epochs=40, verbose=0).history
    assert history["distillation_loss"][-1] < 0.5 * history["distillation_loss"][0]
    assert (teacher.predict(x, verbose=0) == before).all()


@pytest.mark.backend
def test_the_loss_is_as_the_formula_says_with_regularizers_and_sample_weights():
    x, y = data()
    teacher, student = network(), network()
    student.get_layer("second").kernel_regularizer = keras.regularizers.L2(0.1)
    student = compiled(keras.models.clone_model(student))
    weights = np.linspace(0, 2, len(x)).astype("float32")
    taught = ap.distiller(
        student, teacher, temperature=2.0, student_loss_weight=0.25,
        features={"second": "second", "first": "first"}, feature_weight=3.0,
    )  # fmt: skip
    logs = taught.evaluate(x, y, sample_weight=weights, batch_size=48, verbose=0, return_dict=True)

    def outputs(model, name):
        inner = keras.Model(model.inputs, model.get_layer(name).output)
        return inner.predict(x, batch_size=48, verbose=0)

    p, q = (model.predict(x, verbose=0).astype("float64") for model in (teacher, student))
    own = np.mean(-weights * np.log(q[np.arange(len(y)), y]))
    p, q = (one**0.5 / (one**0.5).sum(1, keepdims=True) for one in (p, q))
    soft = 4 * np.mean((p * np.log(p / q)).sum(1))
    hints = sum(
        np.mean((outputs(teacher, n) - outputs(student, n)) ** 2) for n in ("first", "second")
    )
    penalty = 0.1 * float((np.array(student.get_layer("second").kernel) ** 2).sum())
    assert logs["student_loss"] == pytest.approx(own, rel=1e-4)
    assert logs["distillation_loss"] == pytest.approx(soft + 3 * hints, rel=1e-4)
    expected = 0.25 * own + 0.75 * (soft + 3 * hints) + penalty
    assert logs["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.backend
def test_batch_normalization_of_the_student_sees_each_batch_once():
    student, teacher = student_and_teacher()
    alone = compiled(network())
    alone.set_weights(student.get_weights())
    x, y = data()
    features = {"norm": "norm"}
    taught = ap.distiller(student, teacher, features=features)
    taught.fit(x, y, batch_size=48, verbose=0)
    alone.fit(x, y, batch_size=48, verbose=0)
    moved, expected = (np.array(model.get_layer("norm").moving_mean) for model in (student, alone))
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-6)


# -- what is refused ---------------------------------------------------------------------------


def functional():
    inputs = keras.Input((6,))
    shared = _D(6, name="shared")
    return keras.Model(inputs, _D(3, "softmax")(shared(shared(inputs))))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.only = _D(3, name="only")

    def call(self, inputs):
        return self.only(inputs)


class OwnStep(Subclassed):
    def train_step(self, *args):
        return super().train_step(*args)


def built(model):
    model(np.ones((2, 6)))
    return model


REFUSED = {
    "teacher of other classes": (
        lambda: (compiled(network()), network(units=4)), {},
        r"teacher has outputs of shape \(None, 4\), the student of \(None, 3\)",
    ),
    "not compiled": (lambda: (network(), network()), {}, "not compiled .* student.compile"),
    "no model": (lambda: (compiled(network()), "dense.keras"), {}, "teacher='dense.keras'; give"),
    "not built": (
        lambda: (compiled(network()), keras.Sequential([_D(3)])), {}, "teacher: .* is not built",
    ),
    "teacher is student": (lambda: [compiled(network())] * 2, {}, "teacher is the student itself"),
    "unknown layer": (
        lambda: (compiled(network()), network()), {"features": {"secnd": "second"}},
        "features: 'secnd' is no layer of the student. Did you mean 'second'",
    ),
    "unknown layer of the teacher": (
        lambda: (compiled(network()), network()), {"features": {"second": "x"}},
        "features: 'x' is no layer of the teacher",
    ),
    "other features": (
        lambda: (compiled(network()), network(hidden=9)), {"features": {"first": "first"}},
        r"teacher has features 'first' of shape \(None, 9\), the student of \(None, 8\)",
    ),
    "no features": (
        lambda: (compiled(network()), network()), {"features": ["first"]}, "features=.*name of a",
    ),
    "nothing taught": (
        lambda: (compiled(network()), network()), {"temperature": None}, "would teach nothing",
    ),
    "cold": (lambda: (compiled(network()), network()), {"temperature": 0}, "temperature=0"),
    "weight": (
        lambda: (compiled(network()), network()), {"student_loss_weight": 2},
        r"student_loss_weight=2; it must be in \[0, 1\]",
    ),
    "sigmoid against softmax": (
        lambda: (compiled(network()), network("sigmoid")), {}, "teacher ends in sigmoid and",
    ),
    "unseen": (
        lambda: (compiled(built(Subclassed())), network()), {}, "from_logits=None, but nobody",
    ),
    "own step": (
        lambda: (compiled(built(OwnStep())), network()), {}, "OwnStep has train_step of its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_before_training(case):
    make, options, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message):
        ap.distiller(*make(), **options)


def test_a_regression_has_no_classes_to_soften_but_features():
    student, teacher = network(None), network(None)
    student.compile("sgd", "mse")
    with pytest.raises(ValueError, match="only classes can be softened"):
        ap.distiller(student, teacher)
    taught = ap.distiller(student, teacher, temperature=None, features={"output": "output"})
    x, y = data()
    fit = taught.fit(x, np.eye(3)[y], epochs=2, verbose=0)
    assert fit.history["distillation_loss"][0] > 0


def test_a_layer_that_is_called_twice_is_refused_as_the_fit_begins():
    student, teacher = compiled(functional()), functional()
    taught = ap.distiller(student, teacher, features={"shared": "shared"})
    with pytest.raises(ValueError, match="'shared' is called 2 times"):
        taught.fit(*data(), verbose=0)


@pytest.mark.backend
def test_a_subclassed_student_learns_when_its_outputs_are_known():
    student = compiled(built(Subclassed()), from_logits=True)
    taught = ap.distiller(student, network(), from_logits=True)
    fit = taught.fit(*data(), verbose=0, callbacks=[ap.KeepPruned()])
    assert fit.history["sparsity"] == [0.0]


def test_a_distiller_is_neither_saved_nor_given_another_loss(tmp_path):
    taught = ap.distiller(*student_and_teacher())
    with pytest.raises(NotImplementedError, match=r"distiller\.student\.save"):
        taught.save(tmp_path / "taught.keras")
    with pytest.raises(ValueError, match="compile the student with it"):
        taught.compile("sgd", "mse")
    taught.compile("adam", metrics=["accuracy"])
    assert taught.fit(*data(), verbose=0).history["accuracy"]


# -- fits that die -----------------------------------------------------------------------------


class Dies(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise RuntimeError("died")


def left_over(student):
    states = [one.name for one in student._flatten_layers() if "pruning_state" in one.name]
    hooks = [name for name in vars(student.optimizer) if name == "apply"]
    return states + hooks + [name for name in vars(student) if name == "_activation_pruning"]


@pytest.mark.backend
@pytest.mark.parametrize("then", ["fit", "detach", "fit with callbacks"])
def test_a_distiller_whose_fit_died_leaves_nothing_on_the_student(then):
    student, teacher = student_and_teacher(OPTIMIZERS["momentum"]())
    x, y = data()
    ap.prune(student, 0.5, "magnitude")
    callbacks = [ap.KeepPruned(), ap.ActivationCounter(), Dies()]
    with pytest.raises(RuntimeError, match="died"):
        ap.distiller(student, teacher).fit(x, y, verbose=0, callbacks=callbacks)
    assert left_over(student)
    if then == "detach":
        ap.detach(student)
    else:
        again = [ap.KeepPruned()] if then == "fit with callbacks" else []
        student.fit(x, y, epochs=2, verbose=0, callbacks=again)
        kernel = np.array(student.get_layer("first").kernel)
        assert (kernel == 0).any() == bool(again)  # a plain fit brings pruned weights back
    assert left_over(student) == []


def test_a_student_whose_distiller_is_being_fitted_is_not_quantised_meanwhile():
    student, teacher = student_and_teacher()
    x, y = data()

    class Quantises(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            ap.fake_quantize(self.model.student, data=x)

    with pytest.raises(ValueError, match="fit"):
        ap.distiller(student, teacher).fit(
            x, y, verbose=0, callbacks=[ap.KeepPruned(), Quantises()]
        )
