"""What callbacks say of themselves, and of what they cannot do."""

import re

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap


def test_activity_before_a_fit_is_not_there_yet():
    counting = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "activation")
    with pytest.raises(ValueError, match=r"nothing counted yet: pass this callback to model\.fit"):
        counting.activity()
    plain = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "magnitude")
    with pytest.raises(ValueError, match="the criterion needs no activity"):
        plain.activity()


def test_a_schedule_longer_than_the_fit_is_said_once():
    model, (x, y) = models.compiled(models.mlp()), models.data()
    pruner = ap.PruningCallback(ap.schedules.Linear(0.9, begin=1, end=10), "magnitude")
    with pytest.warns(UserWarning, match="end=10 lies after the last epoch") as told:
        model.fit(x, y, epochs=3, verbose=0, callbacks=[pruner])
    assert len([one for one in told if one.category is UserWarning]) == 1


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (ap.KeepPruned(), "KeepPruned()"),
        (ap.KeepPruned(exclude=["a"]), "KeepPruned(exclude=['a'])"),
        (ap.SpectrumLogger(epochs=5), "SpectrumLogger(epochs=5)"),
        (ap.ActivationCounter(0.1), "ActivationCounter(threshold=0.1)"),
        (ap.L0Sparsity(), "L0Sparsity()"),
        (ap.regularizers.NuclearNorm(0.1), "NuclearNorm(strength=0.1)"),
        (ap.regularizers.Starter("acc"), "Starter(monitor='acc')"),
        (
            ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "magnitude", regrow="set"),
            "PruningCallback(OneShot(final_sparsity=0.5, at=1, by='epoch'), criterion=magnitude, "
            "allocation=global, granularity=Weight(), regrow=SET(",
        ),
    ],
)
def test_callbacks_print_as_they_were_made(made, text):
    assert repr(made).startswith(text)
    assert " at 0x" not in repr(made)


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_numbers_are_no_layers(argument):
    model, (x, y) = models.compiled(models.mlp()), models.data()
    with pytest.raises(
        TypeError, match=rf"{argument}=5; it takes names, patterns such as .* or layers"
    ):
        model.fit(x, y, verbose=0, callbacks=[ap.KeepPruned(**{argument: 5})])


def test_weights_that_came_back_are_counted_by_kernel():
    """Both kernels of a recurrent layer have its path."""
    model = keras.Sequential([keras.Input((3, 4)), keras.layers.SimpleRNN(5, name="r")])
    model.compile("sgd", "mse")
    ap.prune(model, 0.5, exclude=())
    x, y = np.ones((4, 3, 4), "float32"), np.ones((4, 5), "float32")
    gone = [int((w == 0).sum()) for w in model.get_weights()[:2]]
    write = keras.callbacks.LambdaCallback(
        on_train_end=lambda logs: model.set_weights([np.ones_like(w) for w in model.get_weights()])
    )
    with pytest.warns(UserWarning, match="no longer zeros") as told:
        model.fit(x, y, verbose=0, callbacks=[write, ap.KeepPruned()])
    (text,) = [str(one.message) for one in told if "no longer zeros" in str(one.message)]
    numbers = re.search(r"zeros \((.*?)\)", text).group(1)
    assert [int(part.split(": ")[1]) for part in numbers.split(", ")] == gone


@pytest.mark.parametrize("kind", [ap.KeepPruned, ap.ActivationCounter, ap.SpectrumLogger])
def test_layers_that_are_none_are_refused_before_the_fit(kind):
    for name in ("include", "exclude"):
        with pytest.raises(TypeError, match=rf"{name}=True; it takes names"):
            kind(**{name: True})


def test_one_layer_and_a_generator_of_names_are_layers_too():
    model, (x, y) = models.compiled(models.mlp()), models.data()
    first, second = (layer for layer in model.layers[:2])
    schedule = ap.schedules.OneShot(0.5, at=1)
    one = ap.PruningCallback(schedule, "magnitude", exclude=first)
    assert repr(one).startswith("PruningCallback(OneShot(")
    several = ap.PruningCallback(schedule, "magnitude", include=(n for n in [second.name]))
    for _ in range(2):
        model.fit(x, y, verbose=0, callbacks=[several])
        assert set(several.masks()) == {f"{second.name}/kernel"}


def test_flags_that_are_none_are_refused():
    schedule = ap.schedules.OneShot(0.5, at=1)
    for name in ("respect_zeros", "reset_counts"):
        with pytest.raises(TypeError, match=rf"{name}='no'; it must be True or False"):
            ap.PruningCallback(schedule, **{name: "no"})
    with pytest.raises(TypeError, match="count='no'; it must be True or False"):
        ap.PrunedLayer(keras.layers.Dense(2), count="no")


def test_a_message_names_some_of_many_layers():
    layers = [keras.layers.Dense(4, name=f"layer_{index}") for index in range(40)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "mse")
    ap.prune(model, 0.5, allocation="uniform", exclude=())
    write = keras.callbacks.LambdaCallback(
        on_train_end=lambda logs: model.set_weights([np.ones_like(w) for w in model.get_weights()])
    )
    with pytest.warns(UserWarning, match="no longer zeros") as told:
        model.fit(np.ones((2, 4)), np.ones((2, 4)), verbose=0, callbacks=[write, ap.KeepPruned()])
    (text,) = [str(one.message) for one in told if "no longer zeros" in str(one.message)]
    assert "layer_0/kernel: 8" in text
    assert "and 30 more" in text
