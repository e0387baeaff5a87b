"""What a teacher's outputs tell a student, whether they are logits or probabilities."""

from typing import Any

import keras
from keras import ops

from activation_pruning import keras_private, sites
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Model

_LEAST = 1e-20  # a probability below it is taken for it, so that its logarithm is finite
_SOFTMAX, _SIGMOID, _LINEAR = "softmax", "sigmoid", "linear"


class SoftTargets(keras.distillation.DistillationLoss):
    """The divergence of softened outputs: L = T**2 * mean(KL(softmax(z_t / T), softmax(z_s / T))).

    z are the logits of teacher and student. The outputs of a softmax are probabilities p, whose
    logits are log(p) but for a constant, which the next softmax takes away; those of a sigmoid are
    taken for two classes each, with logits log(1 - p) and log(p). `LogitsDistillation` of Keras
    takes any outputs for logits, which flattens probabilities to almost equal ones; and by default
    (Keras 3.12 to 3.15) it forgets the softmax, so that negative logits teach nothing.

    Args:
        temperature: T, above 0.
        teacher, student: what their outputs are, `output_kinds` of each.

    Source: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015,
    section 2.

    Example:
        >>> soft = SoftTargets(1.0, ("softmax", False), ("softmax", True))
        >>> float(soft.compute_loss(ops.array([[0.5, 0.5]]), ops.array([[2.0, 2.0]])))
        0.0
    """

    def __init__(
        self, temperature: float, teacher: tuple[str, bool], student: tuple[str, bool]
    ) -> None:
        self.temperature, self._teacher, self._student = temperature, teacher, student

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """The divergence, a scalar; ValueError for outputs of different shapes."""
        check_shapes("outputs", teacher_outputs.shape, student_outputs.shape)
        taught = self._log_softened(teacher_outputs, *self._teacher)
        learned = self._log_softened(student_outputs, *self._student)
        divergence = ops.sum(ops.exp(taught) * (taught - learned), axis=-1)
        return self.temperature**2 * ops.mean(divergence)

    def _log_softened(self, outputs, kind, logits):
        x = ops.cast(outputs, "float32")  # half precision has no small probabilities
        if kind == _SIGMOID:
            x = ops.stack([ops.zeros_like(x) if logits else 1 - x, x], axis=-1)
        z = x if logits else ops.log(ops.maximum(x, _LEAST))
        return ops.log_softmax(z / self.temperature, axis=-1)


def output_kinds(
    teacher: Model, student: Model, from_logits: bool | None = None
) -> tuple[tuple[str, bool], tuple[str, bool]]:
    """What the outputs of teacher and student are: ("softmax" or "sigmoid", whether logits).

    Read from the last activation in the graph, or else from the loss of the student.

    Args:
        teacher, student: built models; the student is compiled.
        from_logits: whether the outputs are logits where that cannot be seen.

    Raises:
        ValueError: where it cannot be seen and is not given; for a softmax against a sigmoid; where
            outputs are no classes.

    Example:
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
        >>> student.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
        >>> output_kinds(teacher, student)
        (('softmax', False), ('softmax', True))
    """
    ends = {"teacher": teacher, "student": student}
    seen = [_last_activation(name, model, from_logits) for name, model in ends.items()]
    kinds = {kind for kind in seen if kind in (_SOFTMAX, _SIGMOID)}
    if len(kinds) > 1:
        raise ValueError(
            f"teacher ends in {seen[0]} and student in {seen[1]}: one says which class it is, the "
            "other what is true of each; give a teacher that ends as the student does"
        )
    kind = kinds.pop() if kinds else _of_loss(student.loss)
    first, second = ((kind, activation == _LINEAR) for activation in seen)
    return first, second


def check_shapes(what: str, teacher: Any, student: Any) -> None:
    """Raise ValueError for shapes that differ; None is a length that is not known.

    Example:
        >>> check_shapes("outputs", (None, 3), (8, 3))
    """
    pairs = zip(teacher, student, strict=False)
    if len(teacher) != len(student) or any(a != b for a, b in pairs if None not in (a, b)):
        raise ValueError(
            f"teacher has {what} of shape {tuple(teacher)}, the student of {tuple(student)}; they "
            "must be the same: give another teacher, or other layers"
        )


def _last_activation(name, model, from_logits):
    """Of a model's outputs: softmax, sigmoid, linear (logits), or "" for probabilities."""
    last = model
    while sites.is_graph(last) or isinstance(last, keras.layers.Wrapper):
        graph = sites.is_graph(last)
        last = keras_private.output_operations(last)[0] if graph else last.layer
    own = getattr(getattr(last, "activation", None), "__name__", _LINEAR)
    operation = keras_private.operation_name(last)
    if isinstance(last, keras.layers.Softmax) or operation == "nn.Softmax" or own == _SOFTMAX:
        return _SOFTMAX
    if operation == "nn.Sigmoid" or own == _SIGMOID:
        return _SIGMOID
    if not type(last).__module__.startswith("keras.") and from_logits is None:
        raise ValueError(
            f"from_logits=None, but nobody can see what the outputs of the {name} are: they come "
            f"from {last.name!r} ({type(last).__name__}). Give from_logits=True if they are "
            "logits, False if they are probabilities."
        )
    return "" if from_logits is False else _LINEAR


def _of_loss(loss):
    """The kind of outputs that the loss of the student is about."""
    given = keras.losses.get(loss)
    name = getattr(given, "__name__", None) or getattr(given, "name", type(given).__name__)
    if "binary" in name:
        return _SIGMOID
    if "categorical" in name or "kl_div" in name:
        return _SOFTMAX
    raise ValueError(
        f"student was compiled with loss={shown(loss)}, and no softmax or sigmoid makes its "
        "outputs: only classes can be softened. Give temperature=None and features={...}, compile "
        "with a cross-entropy, or make a keras.distillation.Distiller with a loss of your own."
    )
