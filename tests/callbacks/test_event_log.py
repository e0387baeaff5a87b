"""Pruning events in files, in TensorBoard and in MLflow: complete, once each, also after a kill."""

import json
import sys
import warnings

import keras
import models
import numpy as np
import pandas as pd
import pytest

import activation_pruning as ap
from activation_pruning.callbacks.base import settings
from activation_pruning.support import files, texts

STEPS = 4  # of an epoch


def pruner(criterion="magnitude", begin=1, end=3, **kwargs):
    return ap.PruningCallback(ap.schedules.Linear(0.6, begin, end, **kwargs), criterion)


def fit(model, *callbacks, epochs=3, **kwargs):
    x, y = models.data()
    size = -(-len(x) // STEPS)
    return model.fit(
        x, y, epochs=epochs, batch_size=size, verbose=0, callbacks=list(callbacks), **kwargs
    )


def events(folder):
    return pd.read_csv(folder / "events.csv")


def fits(folder):
    return json.loads((folder / "run.json").read_text())["fits"]


# -- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["pruner", "log"])
@pytest.mark.parametrize("begin", [0, 1])
def test_the_file_is_the_table(tmp_path, first, begin):
    prune = pruner(begin=begin)
    log = ap.EventLog(tmp_path / "new" / "folder", prune)
    fit(models.compiled(models.mlp()), *((prune, log) if first == "pruner" else (log, prune)))
    found = events(tmp_path / "new" / "folder")
    assert found.pop("fit").unique().tolist() == [1]
    pd.testing.assert_frame_equal(found, prune.table(), check_dtype=False)
    assert found["event"].nunique() == 4 - begin


def test_each_event_is_there_at_once(tmp_path):
    prune = pruner(begin=1, end=11, frequency=5, by="step")
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((len(prune.table()), len(events(tmp_path))))

    fit(models.compiled(models.mlp()), prune, ap.EventLog(tmp_path, prune), Look())
    assert [table for table, _ in seen] == [written for _, written in seen]
    assert len({written for _, written in seen}) > 2


def test_run_json_holds_what_repeats_the_run(tmp_path):
    prune = pruner("activation_magnitude")
    model = models.compiled(models.mlp())
    fit(model, prune, ap.EventLog(tmp_path, prune))
    (run,) = fits(tmp_path)
    assert run["pruning"] == settings(prune)
    assert run["pruning"]["schedule"] == repr(prune.schedule)
    assert (run["first_epoch"], run["epochs"], run["steps"]) == (0, 3, STEPS)
    assert run["model"]["parameters"] == model.count_params()
    assert set(run["model"]["sites"]) == set(prune.table()["site"])
    assert run["backend"] == keras.backend.backend()
    assert run["version of keras"] == keras.__version__


def test_settings_name_layers_and_functions():
    layer = keras.layers.Dense(2, name="head")
    prune = ap.PruningCallback(
        ap.schedules.OneShot(0.5), lambda site: site.kernel, exclude=[layer], include="a*"
    )
    found = settings(prune)
    assert (found["exclude"], found["include"]) == (["head"], ["a*"])
    assert (found["criterion"], found["allocation"]) == ("<lambda>", "global")
    assert json.dumps(found)


def test_a_resumed_fit_does_its_events_again_once(tmp_path):
    model, prune = models.compiled(models.mlp()), pruner(end=4)
    fit(model, prune, ap.EventLog(tmp_path, prune), epochs=3)
    before = (tmp_path / "events.csv").read_text().splitlines()
    again = pruner(end=4)  # in another process
    # Back to the end of epoch 1: what came after is done again, and differs.
    fit(model, again, ap.EventLog(tmp_path, again), epochs=4, initial_epoch=1)
    found = events(tmp_path)
    assert found["epoch"].drop_duplicates().tolist() == [1, 2, 3, 4]
    assert found["event"].drop_duplicates().tolist() == [1, 2, 3, 4]
    assert not found.duplicated(["fit", "event", "site"]).any()
    assert (tmp_path / "events.csv").read_text().splitlines()[:3] == before[:3]
    assert found["total_sparsity"].iloc[-1] == pytest.approx(0.6, abs=0.01)
    assert [(run["fit"], run["first_epoch"]) for run in fits(tmp_path)] == [(1, 0), (1, 1)]


@pytest.mark.parametrize("by", ["epoch", "step"])
def test_what_was_after_the_point_of_resumption_is_gone(tmp_path, by):
    model, unit = models.compiled(models.mlp()), 1 if by == "epoch" else STEPS
    prune = pruner(begin=unit, end=3 * unit, by=by)
    fit(model, prune, ap.EventLog(tmp_path, prune))
    again = ap.PruningCallback(ap.schedules.OneShot(0.9, at=4), "magnitude")
    fit(model, again, ap.EventLog(tmp_path, again), epochs=4, initial_epoch=1)
    steps = events(tmp_path)["step"].drop_duplicates().tolist()
    assert steps == [*range(unit, STEPS + 1), 4 * STEPS] if by == "step" else [STEPS, 4 * STEPS]


def test_a_new_fit_has_a_new_number_and_keeps_the_old_events(tmp_path):
    model, prune = models.compiled(models.mlp()), pruner()
    log = ap.EventLog(tmp_path, prune)
    fit(model, prune, log)
    before = (tmp_path / "events.csv").read_text()
    fit(model, prune, log)
    assert (tmp_path / "events.csv").read_text().startswith(before)
    assert events(tmp_path).groupby("fit")["event"].nunique().tolist() == [3, 3]


def test_a_kill_while_writing_leaves_the_file_of_the_event_before(tmp_path, monkeypatch):
    model, prune = models.compiled(models.mlp()), pruner()
    fit(model, prune, ap.EventLog(tmp_path, prune))
    before = (tmp_path / "events.csv").read_text()
    write = pd.DataFrame.to_csv

    def killed(table, path, **kwargs):
        if table["fit"].max() == 1 or len(table) == len(events(tmp_path)):
            return write(table, path, **kwargs)
        path.write_text(before[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_csv", killed)
    prune = pruner()
    with pytest.raises(KeyboardInterrupt):
        fit(model, prune, ap.EventLog(tmp_path, prune))
    assert (tmp_path / "events.csv").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.csv", "run.json"]
    ap.detach(model)


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    prune = pruner()
    log = ap.EventLog(tmp_path, prune)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match=r"run\.json.*No space left"):
        fit(models.compiled(models.mlp()), prune, log)


def test_dense_training_and_schedules_without_events(tmp_path):
    fit(models.compiled(models.mlp()), ap.EventLog(tmp_path / "dense"))
    assert [path.name for path in (tmp_path / "dense").iterdir()] == ["run.json"]
    assert fits(tmp_path / "dense")[0]["pruning"] is None
    prune = pruner(begin=50, end=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the schedule is never reached, which is told
        fit(models.compiled(models.mlp()), prune, ap.EventLog(tmp_path / "late", prune))
    assert events(tmp_path / "late").empty
    assert list(events(tmp_path / "late"))[1:] == list(prune.table())


def test_two_pruners_have_logs_of_their_own(tmp_path):
    schedule = ap.schedules.OneShot(0.5, at=1)
    model = models.compiled(models.mlp())
    names = [layer.name for layer in model.layers if layer.weights][:2]
    both = [ap.PruningCallback(schedule, "magnitude", include=[name]) for name in names]
    logs = [ap.EventLog(tmp_path / n, prune) for n, prune in zip(names, both, strict=True)]
    fit(model, *both, *logs)
    for name in names:
        found = events(tmp_path / name)
        assert found["layer"].tolist() == [name]
        assert found["event"].tolist() == [1]


def test_regrowth_says_what_has_grown(tmp_path):
    prune = ap.PruningCallback(ap.schedules.Constant(0.5, end=2), "random", regrow="set")
    fit(models.compiled(models.mlp()), prune, ap.EventLog(tmp_path, prune))
    assert events(tmp_path)["grown"].tolist() == prune.table()["grown"].tolist()
    assert events(tmp_path)["grown"].sum() > 0


def test_bad_arguments_and_foreign_files(tmp_path):
    with pytest.raises(ValueError, match="must be the PruningCallback of the same fit"):
        ap.EventLog(tmp_path, "magnitude")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        ap.EventLog(tmp_path / "file")
    for name, text in (("run.json", "{}"), ("run.json", "["), ("events.csv", "a,b\n1,2\n")):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / name).write_text(text)
        prune, model = pruner(), models.compiled(models.mlp())
        with pytest.raises(ValueError, match="is not a file that EventLog wrote"):
            fit(model, prune, ap.EventLog(folder, prune))
        assert (folder / name).read_text() == text
        ap.detach(model)


@pytest.mark.parametrize(
    ("name", "log"), [("tensorboard", ap.TensorBoardLog), ("mlflow", ap.MLflowLog)]
)
def test_what_is_not_installed_is_said(monkeypatch, name, log):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"pip install 'activation-pruning\[{name}\]'"):
        log(*(["folder"] if name == "tensorboard" else []))


# -- TensorBoard -----------------------------------------------------------------------------


@pytest.fixture
def board(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read():
        found = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
        found.Reload()
        return found

    return read


def scalars(board, tag):
    import tensorflow as tf

    return [
        (entry.step, float(tf.make_ndarray(entry.tensor_proto))) for entry in board.Tensors(tag)
    ]


def test_tensorboard_shows_sparsity_frequencies_and_spectra(tmp_path, board):
    prune = pruner("activation_magnitude")
    model = models.compiled(models.mlp())
    fit(model, prune, ap.TensorBoardLog(tmp_path, prune))
    found, table = board(), prune.table()
    steps = table.drop_duplicates("event")
    total = scalars(found, "pruning/sparsity")
    assert [step for step, _ in total] == steps["step"].tolist() == [STEPS, 2 * STEPS, 3 * STEPS]
    assert [value for _, value in total] == pytest.approx(steps["total_sparsity"].tolist())
    for site, rows in table.groupby("site"):
        own = [value for _, value in scalars(found, f"sparsity/{site}")]
        assert own == pytest.approx(rows["sparsity"].tolist())
        assert len(found.Tensors(f"singular_values/{site}")) == 3
    layer, site = table[["layer", "site"]].iloc[0]
    kernel = model.get_layer(layer).get_weights()[0]
    import tensorflow as tf

    histogram = tf.make_ndarray(found.Tensors(f"singular_values/{site}")[-1].tensor_proto)
    values = np.linalg.svd(kernel, compute_uv=False)  # the last event ends the training
    assert histogram[:, 2].sum() == len(values)
    assert histogram[-1, 1] == pytest.approx(values.max(), rel=1e-4)
    histogram = tf.make_ndarray(found.Tensors(f"frequency/{layer}")[-1].tensor_proto)
    assert histogram[:, 2].sum() == kernel.shape[1]
    assert 0 <= histogram[0, 0] <= histogram[-1, 1] <= 1


def test_tensorboard_after_a_resumed_fit(tmp_path, board):
    model, prune = models.compiled(models.mlp()), pruner(end=4)
    fit(model, prune, ap.TensorBoardLog(tmp_path, prune), epochs=3)
    (written,) = tmp_path.iterdir()
    with written.open("ab") as file:
        file.write(b"\x01half a record")  # the run was killed while it wrote
    again = pruner(end=4)
    fit(model, again, ap.TensorBoardLog(tmp_path, again), epochs=4, initial_epoch=1)
    assert [step for step, _ in scalars(board(), "pruning/sparsity")] == [
        STEPS * n for n in (1, 2, 3, 4)
    ]
    assert len(list(tmp_path.iterdir())) == 2


def test_tensorboard_without_events_or_counts(tmp_path, board):
    fit(models.compiled(models.mlp()), ap.TensorBoardLog(tmp_path))
    assert list(tmp_path.iterdir()) == []
    prune = pruner()
    fit(models.compiled(models.mlp()), prune, ap.TensorBoardLog(tmp_path, prune))
    assert not any(tag.startswith("frequency") for tag in board().Tags()["tensors"])


def test_tensorboard_needs_a_folder_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write"):
        ap.TensorBoardLog(tmp_path / "file", pruner())
    for wrong in (None, 3, ""):
        for log in (ap.TensorBoardLog, ap.EventLog):
            with pytest.raises(TypeError, match=f"{wrong!r} is no folder; give its path"):
                log(wrong, pruner())


# -- MLflow ----------------------------------------------------------------------------------


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    package = pytest.importorskip("mlflow")
    before = package.get_tracking_uri()
    package.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield package
    package.set_tracking_uri(before)


def history(mlflow, run, name):
    found = mlflow.MlflowClient().get_metric_history(run, name)
    return [(entry.step, entry.value) for entry in found]


def test_mlflow_gets_parameters_and_events(mlflow):
    prune = pruner()
    model = models.compiled(models.mlp())
    with mlflow.start_run() as run:
        fit(model, prune, ap.MLflowLog(prune))
        assert mlflow.active_run() is not None
    kept = mlflow.get_run(run.info.run_id).data
    assert kept.params["pruning.criterion"] == "magnitude"
    assert kept.params["pruning.schedule"] == repr(prune.schedule)
    table = prune.table()
    first = table.drop_duplicates("event")
    total = history(mlflow, run.info.run_id, "pruning/sparsity")
    assert total == list(zip(first["step"], first["total_sparsity"], strict=True))
    for site, rows in table.groupby("site"):
        values = [
            value for _, value in history(mlflow, run.info.run_id, f"pruning/sparsity_of/{site}")
        ]
        assert values == rows["sparsity"].tolist()
    with mlflow.start_run(run_id=run.info.run_id):  # resumed, in another process
        again = pruner()
        fit(model, again, ap.MLflowLog(again), initial_epoch=1)
    assert history(mlflow, run.info.run_id, "pruning/sparsity") == total


def test_mlflow_makes_a_run_where_none_is_active_and_ends_it(mlflow):
    prune = pruner()
    fit(models.compiled(models.mlp()), prune, ap.MLflowLog(prune))
    assert mlflow.active_run() is None
    run = mlflow.last_active_run()
    assert run.info.status == "FINISHED"
    assert len(history(mlflow, run.info.run_id, "pruning/sparsity")) == 3


def test_mlflow_ends_the_run_of_a_fit_that_died(mlflow):
    class Dies(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    prune = pruner()
    with pytest.raises(KeyboardInterrupt):
        fit(models.compiled(models.mlp()), prune, ap.MLflowLog(prune), Dies())
    died = mlflow.active_run().info.run_id
    other = ap.PruningCallback(ap.schedules.OneShot(0.25, at=1), "random")
    fit(models.compiled(models.mlp()), other, ap.MLflowLog(other))
    assert mlflow.active_run() is None
    assert mlflow.get_run(died).info.status == "FAILED"
    last = mlflow.last_active_run()
    assert (last.info.status, last.data.params["pruning.criterion"]) == ("FINISHED", "random")


def test_mlflow_says_what_to_do_where_a_run_has_other_settings(mlflow):
    other = ap.PruningCallback(ap.schedules.OneShot(0.25, at=1), "random")
    prune = pruner()
    with mlflow.start_run():
        fit(models.compiled(models.mlp()), prune, ap.MLflowLog(prune))
        with pytest.raises(ValueError, match="give each fit a run of its own"):
            fit(models.compiled(models.mlp()), other, ap.MLflowLog(other))


def test_mlflow_says_where_it_cannot_keep_runs(mlflow):
    mlflow.set_tracking_uri("nonsense://here")
    prune = pruner()
    with pytest.raises(RuntimeError, match=r"cannot start a run at 'nonsense://here': name a serv"):
        fit(models.compiled(models.mlp()), prune, ap.MLflowLog(prune))


def test_mlflow_without_a_pruner_logs_nothing(mlflow):
    before = mlflow.search_runs(output_format="list")
    fit(models.compiled(models.mlp()), ap.MLflowLog())
    assert len(mlflow.search_runs(output_format="list")) == len(before)


@pytest.mark.backend
@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="it refuses such names itself")
def test_names_that_look_like_formulas_come_back(tmp_path):
    def model():
        inner = [keras.layers.Dense(6, name="=cmd|' C!A0"), keras.layers.Dense(3, name="-x")]
        return models.compiled(keras.Sequential([keras.Input((6,)), *inner, keras.layers.Dense(3)]))

    prune = pruner()
    fit(model(), prune, ap.EventLog(tmp_path, prune))
    raw = pd.read_csv(tmp_path / "events.csv")["layer"].tolist()
    assert set(raw) == {"'=cmd|' C!A0", "'-x"}
    again = pruner()
    fit(model(), again, ap.EventLog(tmp_path, again))  # reads what is there, and writes it back
    assert pd.read_csv(tmp_path / "events.csv")["layer"].tolist() == [*raw, *raw]
    assert texts.read_csv(tmp_path / "events.csv")["layer"].tolist()[:2] == ["=cmd|' C!A0", "-x"]


def test_a_pruner_that_is_not_in_the_fit_is_said(tmp_path):
    model, own = models.compiled(models.mlp()), pruner()
    log = ap.EventLog(tmp_path, own)
    with pytest.warns(UserWarning, match=r"this EventLog is not in this fit.*give fit both"):
        fit(model, log, pruner())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, log, own)
        fit(model, own, log)
