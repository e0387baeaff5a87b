"""The Distiller in which a teacher teaches a student that may be pruned meanwhile."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from activation_pruning import keras_private
from activation_pruning.strategies.soft_targets import SoftTargets, check_shapes
from activation_pruning.support.types import Model

Pairs = list[tuple[keras.Layer, keras.Layer]]


class Lesson(keras.distillation.Distiller):
    """A Distiller that runs the student once in each step, and drops nothing of its loss.

    L = w * L_student + (1 - w) * (L_soft + v * sum of mean((f_t - f_s)**2)) + what layers add

    The Distiller of Keras 3.15 runs the student a second time for features (BatchNormalization and
    counters would see each sample twice), and leaves out sample weights and regularizers.

    Args:
        teacher, student: the models; the teacher is frozen from now on.
        soft: `SoftTargets`, or None: the outputs are not taught.
        pairs: [(layer of the student, layer of the teacher)] whose outputs f are taught.
        student_loss_weight: w, in [0, 1].
        feature_weight: v.

    Example:
        >>> import numpy as np
        >>> teacher, student = (keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        ...                     for _ in range(2))
        >>> student.compile("sgd", "mse")
        >>> lesson = Lesson(teacher, student, None, [(student.layers[0], teacher.layers[0])], 0.0)
        >>> lesson.compile("sgd", student.loss)
        >>> fit = lesson.fit(np.ones((8, 2)), np.ones((8, 3)), epochs=2, verbose=0)
        >>> fit.history["loss"][1] < fit.history["loss"][0]
        True
    """

    def __init__(
        self,
        teacher: Model,
        student: Model,
        soft: SoftTargets | None,
        pairs: Pairs,
        student_loss_weight: float = 0.5,
        feature_weight: float = 1.0,
    ) -> None:
        losses = [] if soft is None else [soft]
        super().__init__(teacher, student, losses, student_loss_weight=student_loss_weight)
        # Past the tracking of Keras: the layers are the student's and the teacher's already.
        for name, value in {"soft": soft, "pairs": pairs, "seen": None}.items():
            keras_private.override(self, name, value)
        self.feature_weight = feature_weight

    def compile(
        self, optimizer: Any = "adam", loss: Any = None, metrics: Any = None, **options: Any
    ) -> None:
        """Compile it with other settings; the loss remains the student's.

        Raises ValueError for another one.
        """
        if loss is not None and loss is not self.student.loss:
            raise ValueError(
                f"loss={loss!r} is not that of the student ({self.student.loss!r}), by which it "
                "learns: compile the student with it, and call distiller(student, teacher) again"
            )
        super().compile(optimizer, self.student.loss, metrics, **options)

    def make_train_function(self, force: bool = False) -> Any:
        """Trace the step anew in each fit: the student may have been changed since."""
        return super().make_train_function(force=True)

    def call(self, inputs: Any, training: Any = None, **kwargs: Any) -> Any:
        """What the student says."""
        with _outputs_of([layer for layer, _ in self.pairs]) as seen:
            outputs = self.student(inputs, training=training, **kwargs)
        keras_private.override(self, "seen", seen if training else None)  # not after predict
        return outputs

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: Any = True,
    ) -> Any:
        """The loss, see above; the teacher is run here."""
        seen = self.seen
        keras_private.override(self, "seen", None)  # of this step only
        if y_pred is None or seen is None:
            with _outputs_of([layer for layer, _ in self.pairs]) as seen:
                again = self.student(x, training=training) if self.pairs or y_pred is None else None
            y_pred = again if y_pred is None else y_pred
        added = [ops.sum(loss) for loss in self.losses]  # before the teacher may add some
        own, taught, weight = ops.zeros(()), ops.zeros(()), self.student_loss_weight
        if weight > 0:
            own = keras_private.data_loss(self.student, x, y, y_pred, sample_weight)
        if weight < 1:
            taught = self._taught(x, y_pred, seen)
        total = weight * own + (1 - weight) * taught
        self.student_loss_tracker.update_state(own)
        self.distillation_loss_tracker.update_state(taught)
        self.total_loss_tracker.update_state(total)
        return sum(added, start=total)

    def _taught(self, x, y_pred, seen):
        with _outputs_of([layer for _, layer in self.pairs]) as shown:
            target = ops.stop_gradient(self.teacher(x, training=False))
        total = ops.zeros(()) if self.soft is None else self.soft.compute_loss(target, y_pred)
        for own, other in self.pairs:
            learned, wanted = (
                ops.cast(_one(found, layer), "float32")
                for found, layer in ((seen, own), (shown, other))
            )
            check_shapes(f"outputs of {other.name!r}", wanted.shape, learned.shape)
            squares = ops.square(ops.stop_gradient(wanted) - learned)
            total = total + self.feature_weight * ops.mean(squares)
        return total

    def get_config(self) -> dict[str, Any]:
        """There is none: it raises NotImplementedError that says what to save."""
        raise NotImplementedError(
            "a distiller is not saved: it would hold the teacher, too, and need this package. Save "
            "the student: distiller.student.save(path); in fit, ModelCheckpoint with "
            "save_weights_only=True, or a callback that saves self.model.student."
        )


@contextlib.contextmanager
def _outputs_of(layers: list[keras.Layer]) -> Iterator[Mapping[int, list[Any]]]:
    """{id(layer): its outputs}, of each call inside the block."""
    found: dict[int, list[Any]] = {id(layer): [] for layer in layers}

    def spy(layer, original, *args, **kwargs):
        outputs = original(*args, **kwargs)
        found[id(layer)].append(outputs)
        return outputs

    unique = {id(layer): layer for layer in layers}.values()
    shadows = ((one, "call", functools.partial(spy, one, one.call)) for one in unique)
    with keras_private.overridden(shadows):
        yield found


def _one(found, layer):
    outputs = found[id(layer)]
    if len(outputs) != 1:
        raise ValueError(
            f"features: layer {layer.name!r} is called {len(outputs)} times when its model runs; "
            "choose layers that are called once"
        )
    return outputs[0]
