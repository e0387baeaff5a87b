"""SpectrumLogger: what it keeps and when, and that it changes nothing."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap

pytestmark = pytest.mark.backend


def pruner(**kwargs):
    return ap.PruningCallback(ap.schedules.Linear(0.6, begin=1, end=3), "magnitude", **kwargs)


def fit(model, *callbacks, epochs=4):
    keras.utils.set_random_seed(3)
    x, y = models.data()
    return model.fit(x, y, epochs=epochs, batch_size=8, verbose=0, callbacks=list(callbacks))


def moments(logger):
    table = logger.norms()[["moment", "epoch", "event"]].drop_duplicates()
    return [tuple(row) for row in table.itertuples(index=False)]


@pytest.mark.parametrize("first", ["pruner", "logger"])
def test_spectra_around_every_event(first):
    model, prune, logger = models.compiled(models.mlp()), pruner(), ap.SpectrumLogger(epochs=())
    fit(model, *((prune, logger) if first == "pruner" else (logger, prune)))
    events = prune.table()
    assert moments(logger) == [
        (moment, epoch, event)
        for event, epoch in enumerate(dict.fromkeys(events["epoch"]), start=1)
        for moment in ("before", "after")
    ]
    norms = logger.norms()
    after = norms[norms["moment"] == "after"]["sparsity"].to_numpy()
    np.testing.assert_allclose(after, events["sparsity"])
    before = norms[norms["moment"] == "before"]["sparsity"].to_numpy()
    np.testing.assert_allclose(before[:2], 0)
    np.testing.assert_allclose(before[2:], after[:-2])


def test_the_spectra_are_those_of_the_weights():
    model, logger = models.compiled(models.mlp()), ap.SpectrumLogger()
    seen = {}

    class Peek(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            seen[epoch + 1] = ap.analysis.spectra(self.model, exclude=None)

    fit(model, pruner(), logger, Peek())
    table = logger.table()
    for epoch, spectra in seen.items():
        kept = table[(table["moment"] == "epoch") & (table["epoch"] == epoch)]
        np.testing.assert_allclose(kept["value"], spectra["value"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("epochs", "wanted"),
    [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), ([0, 3], [0, 3]), ([4], [4]), (3, [0, 3])],
)
def test_epochs(epochs, wanted):
    model, logger = models.compiled(models.mlp()), ap.SpectrumLogger(epochs)
    fit(model, logger)
    assert moments(logger) == [("epoch", epoch, 0) for epoch in wanted]


def test_looking_changes_nothing():
    weights = []
    for loggers in ([], [ap.SpectrumLogger()]):
        keras.utils.set_random_seed(0)
        model = models.compiled(models.mlp())
        fit(model, pruner(), *loggers)
        weights.append(model.get_weights())
        assert "_activation_pruning" not in vars(model)
    for plain, logged in zip(*weights, strict=True):
        np.testing.assert_array_equal(plain, logged)


def test_a_second_fit_starts_anew():
    model, logger = models.compiled(models.mlp()), ap.SpectrumLogger([1])
    fit(model, logger)
    fit(model, pruner(), logger)
    assert moments(logger)[0] == ("before", 1, 1)
    assert len(moments(logger)) > 1


def test_zeros_that_are_there_already_are_no_event():
    model, logger = models.compiled(models.mlp()), ap.SpectrumLogger(())
    ap.prune(model, 0.5)
    fit(model, ap.KeepPruned(), logger)
    with pytest.raises(ValueError, match="no spectra kept"):
        logger.table()


@pytest.mark.parametrize("logger_first", [False, True])
def test_events_have_the_epochs_of_the_pruner_whatever_the_order(logger_first):
    model, logger = models.compiled(models.mlp()), ap.SpectrumLogger(epochs=())
    pruners = [ap.PruningCallback(ap.schedules.OneShot(s, at=e), "magnitude") for s, e in AT]
    fit(model, *([logger, *pruners] if logger_first else [*pruners, logger]))
    assert moments(logger) == [
        ("before", 0, 1), ("after", 0, 1), ("before", 2, 2), ("after", 2, 2),
    ]  # fmt: skip
    assert [pruner.table()["epoch"].iloc[0] for pruner in pruners] == [0, 2]


AT = ((0.2, 0), (0.5, 2))


@pytest.mark.parametrize("epochs", [0, -1, 1.5, [1, -2], ["a"]])
def test_bad_epochs(epochs):
    with pytest.raises(ValueError, match="epochs"):
        ap.SpectrumLogger(epochs)


def test_evaluate_takes_nothing_away():
    model = models.compiled(models.mlp())
    counter, logger, prune = ap.ActivationCounter(), ap.SpectrumLogger(), pruner()
    fit(model, prune, logger, counter)
    before = [table.copy() for table in (logger.table(), prune.table(), counter.table())]
    x, y = models.data()
    model.evaluate(x, y, verbose=0, callbacks=[prune, logger, counter])
    for old, new in zip(before, (logger.table(), prune.table(), counter.table()), strict=True):
        assert old.equals(new)


def test_weights_that_are_not_finite_are_left_out_with_a_warning():
    class Spoil(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                layer = self.model.layers[0]
                layer.set_weights([w * np.nan for w in layer.get_weights()])

    model, logger = models.compiled(models.mlp()), ap.SpectrumLogger()
    with pytest.warns(UserWarning, match="not finite"):
        fit(model, Spoil(), logger, epochs=2)
    assert moments(logger) == [("epoch", 0, 0), ("epoch", 1, 0)]


def test_words_are_no_epochs():
    with pytest.raises(ValueError, match=r"epochs='all'; give a number n.*1 for all of them"):
        ap.SpectrumLogger(epochs="all")
