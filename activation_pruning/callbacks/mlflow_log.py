"""The callback that logs pruning events to MLflow."""

import re
from typing import Any

from activation_pruning.callbacks.base import EventListener, settings
from activation_pruning.support.optional import optional

_started: list[Any] = []  # the run that a log started last: still active where its fit died


class MLflowLog(EventListener):
    """Log the settings of a pruning and every event to MLflow.

    Parameters `pruning.<name>`; at each event, by training step, the metrics `pruning/sparsity`,
    `pruning/target_sparsity`, `pruning/epoch` and `pruning/sparsity_of/<site>`. They go to the
    active run, or to a new one that ends with the fit. `mlflow.set_tracking_uri("http://...")`
    names a server; without one MLflow keeps runs in a database, which needs the whole of `mlflow`,
    not `mlflow-skinny`. The metrics of the epochs, `sparsity` among them, are for MLflow's own
    callback, `mlflow.keras.MlflowCallback()`. A fit that goes on with an older one, in the same
    run (`mlflow.start_run(run_id=...)`), adds the events not there yet.

    Args:
        pruner: the `PruningCallback` of the same fit; None logs nothing.

    Raises:
        ImportError: where MLflow is not installed; names the command.
        ValueError: for another `pruner`; as the fit begins, where the active run has other
            settings of a pruning.
        RuntimeError: as the fit begins, where MLflow can keep no runs.

    Example:
    >>> import activation_pruning as ap
    >>> pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1))
    >>> log = ap.MLflowLog(pruner)                                  # doctest: +SKIP
    >>> model.fit(x, y, epochs=2, callbacks=[pruner, log])          # doctest: +SKIP
    """

    def __init__(self, pruner: Any = None) -> None:
        self._mlflow = optional("mlflow", "mlflow")
        super().__init__(pruner)
        self._run, self._own = None, False

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        if self.pruner is not None:
            run = self._mlflow.active_run()
            if any(run is one for one in _started):  # of a fit that died
                self._mlflow.end_run("FAILED")
                run = None
            self._own = run is None
            self._run = (run or self._start()).info.run_id
            told = {f"pruning.{name}": value for name, value in settings(self.pruner).items()}
            try:
                self._mlflow.log_params(told, run_id=self._run)
            except self._mlflow.MlflowException as error:
                raise ValueError(
                    f"run {self._run} of MLflow does not take the settings of this pruning; give "
                    f"each fit a run of its own, mlflow.start_run(nested=True) in another: {error}"
                ) from error

    def _start(self):
        try:
            _started[:] = [self._mlflow.start_run()]
        except Exception as error:  # MLflow's own, of its stores, of the network
            raise RuntimeError(
                f"MLflow cannot start a run at {self._mlflow.get_tracking_uri()!r}: name a server "
                "that runs, mlflow.set_tracking_uri('http://...'), or install the whole of mlflow, "
                f"which has a database of its own: {error}"
            ) from error
        return _started[0]

    def on_train_end(self, logs: Any = None) -> None:
        if self._own:
            self._mlflow.end_run()
            self._own = False
        super().on_train_end(logs)

    def _begin(self, epoch):
        self._known = set()
        if epoch > 0 and self.pruner is not None:
            history = self._mlflow.MlflowClient().get_metric_history(self._run, "pruning/epoch")
            self._known = {(int(entry.value), entry.step) for entry in history}

    def _event(self, rows, epoch, step):
        first = rows.iloc[0]
        metrics = {"pruning/sparsity": first["total_sparsity"], "pruning/epoch": epoch}
        metrics["pruning/target_sparsity"] = first["target_sparsity"]
        for site, sparsity in zip(rows["site"], rows["sparsity"], strict=True):
            taken = re.sub(r"[^\w./ -]", "_", site)  # what MLflow takes in a name
            metrics[f"pruning/sparsity_of/{taken}"] = sparsity
        self._mlflow.log_metrics(metrics, step=step, run_id=self._run)
