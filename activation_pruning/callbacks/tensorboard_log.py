"""The callback that shows pruning events in TensorBoard."""

import warnings
from typing import Any

from activation_pruning.callbacks.base import EventListener
from activation_pruning.evidence.spectrum import Spectrum
from activation_pruning.support.files import check_folder
from activation_pruning.support.optional import optional
from activation_pruning.support.types import Path


class TensorBoardLog(EventListener):
    """Write TensorBoard summaries of every pruning event, on any backend of Keras.

    At each event, by training step: `pruning/sparsity`, `pruning/target_sparsity`,
    `pruning/epoch`, `sparsity/<site>`; of a criterion that counts, a histogram of the activation
    frequencies, `frequency/<layer>`; of each kernel after the event a histogram of its singular
    values and its effective rank. The metrics of the epochs, `sparsity` among them, are for
    Keras's `TensorBoard`. A fit that goes on with an older one adds the events not there yet.

    Args:
        log_dir: folder of TensorBoard, as for Keras's `TensorBoard`.
        pruner: the `PruningCallback` of the same fit; None writes nothing.

    Raises:
        ImportError: where TensorBoard is not installed; names the command.
        TypeError, ValueError: for a `log_dir` that is no path, another `pruner`.
        OSError: the folder cannot be written.

    Example:
    >>> import tempfile, activation_pruning as ap
    >>> pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1))
    >>> log = ap.TensorBoardLog(tempfile.mkdtemp(), pruner)         # doctest: +SKIP
    >>> model.fit(x, y, epochs=2, callbacks=[pruner, log])          # doctest: +SKIP
    """

    def __init__(self, log_dir: Path, pruner: Any = None) -> None:
        for module in ("tensorflow", "tensorboard"):  # tf.summary needs both
            optional(module, "tensorboard")
        super().__init__(pruner)
        self.log_dir = check_folder(log_dir)
        self._writer = None

    def _begin(self, epoch):
        self._close()  # of a fit that died
        self._known = _logged(self.log_dir) if epoch > 0 else set()

    def on_train_end(self, logs: Any = None) -> None:
        self._close()
        super().on_train_end(logs)

    def _close(self):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _event(self, rows, epoch, step):
        import tensorflow as tf

        first = rows.iloc[0]
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.log_dir))
        with self._writer.as_default(step=step):
            tf.summary.scalar("pruning/sparsity", first["total_sparsity"])
            tf.summary.scalar("pruning/target_sparsity", first["target_sparsity"])
            tf.summary.scalar("pruning/epoch", epoch)
            for site, sparsity in zip(rows["site"], rows["sparsity"], strict=True):
                tf.summary.scalar(f"sparsity/{site}", sparsity)
            self._frequencies(tf.summary)
            self._spectra(tf.summary)
        self._writer.flush()  # a run that is killed keeps it

    def _frequencies(self, summary):
        if "frequency" in self.pruner.settings.statistics:
            for layer, units in self.pruner.activity().groupby("layer", sort=False):
                summary.histogram(f"frequency/{layer}", units["frequency"].dropna().to_numpy())

    def _spectra(self, summary):
        self._hooks.sync()
        for site in self._sites:
            try:
                spectrum = Spectrum.of(site)
            except ValueError as error:  # a training that diverges is for others to end
                warnings.warn(f"no singular values of {site.name}: {error}", stacklevel=2)
                continue
            values = spectrum.table()["value"].to_numpy()
            summary.histogram(f"singular_values/{site.name}", values)
            summary.scalar(f"effective_rank/{site.name}", spectrum.norms()["effective_rank"])


def _logged(folder):
    """{(epoch, step)} of the events in the files of a folder."""
    import tensorflow as tf

    found = set()
    for path in sorted(folder.glob("events.out.tfevents.*")):
        try:
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    if value.tag == "pruning/epoch":
                        found.add((int(tf.make_ndarray(value.tensor)), event.step))
        except tf.errors.DataLossError:
            continue  # the run was killed while it wrote; what came before has been read
    return found
