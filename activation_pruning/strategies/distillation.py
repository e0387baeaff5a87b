"""A pruned student learns from a teacher, usually the dense model that it was pruned from."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from activation_pruning import keras_private
from activation_pruning.graph.copies import copy_model
from activation_pruning.strategies.lesson import Lesson
from activation_pruning.strategies.soft_targets import SoftTargets, check_shapes, output_kinds
from activation_pruning.support.checks import check_number
from activation_pruning.support.names import did_you_mean, shortened
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Model

_FEATURES = "{name of a student's layer: name of a teacher's layer}"


def distiller(
    student: Model,
    teacher: Model,
    *,
    temperature: float | None = 3.0,
    student_loss_weight: float = 0.5,
    features: Mapping[str, str] | None = None,
    feature_weight: float = 1.0,
    from_logits: bool | None = None,
) -> Lesson:
    """A compiled Distiller whose `fit` trains the student, in place, by what the teacher says.

    L = w * L_student + (1 - w) * (T**2 * mean KL(teacher, student, both softened by T)
                                   + v * sum over the features of mean((f_t - f_s)**2))

    and what the student's layers add, such as regularizers. The student's own optimizer, loss and
    metrics are used, and the optimizer keeps its state. Callbacks of this package act on the
    student alone; those of Keras see the Distiller as their model, teacher included. The Distiller
    itself is not saved: save the student.

    Args:
        student: a built model, compiled with a loss.
        teacher: a trained model with inputs and outputs of the same shapes. It is run in inference
            mode, and frozen: `trainable` is False from then on. No weights are shared.
        temperature: T, above 0; None: nothing is learned of its outputs, only of features.
        student_loss_weight: w, of the student's own loss, in [0, 1].
        features: {name of a student's layer: name of a teacher's layer}, whose outputs have the
            same shape and are to become the same. They may lie in nested models.
        feature_weight: v, at least 0.
        from_logits: whether outputs are logits where that cannot be seen, as in subclassed models.
            It is seen elsewhere: softmax and sigmoid make probabilities, anything else is logits.

    Returns:
        A `keras.distillation.Distiller`, ready for `fit`; `history` has "student_loss" and
        "distillation_loss" besides the metrics.

    Raises:
        TypeError, ValueError: a student that is not compiled or has a training step of its own, a
            teacher that shares its weights, other shapes, several outputs, an unknown layer, or
            outputs that are no classes.

    Source: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015; for
    features Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015.

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu", name="a"),
        ...                             keras.layers.Dense(3, "softmax")])
        >>> teacher = keras.models.clone_model(student)
        >>> student.compile("adam", "sparse_categorical_crossentropy")
        >>> taught = ap.distiller(student, teacher, features={"a": "a"})
        >>> report = ap.prune(student, 0.5)
        >>> fit = taught.fit(np.ones((8, 4)), np.zeros((8,)), verbose=0,
        ...                  callbacks=[ap.KeepPruned()])
        >>> fit.history["sparsity"]
        [0.5]
    """
    _check_models(student, teacher)
    if temperature is not None:
        check_number("temperature", temperature, above=0, hint="3 is usual, 1 changes nothing")
    check_number("student_loss_weight", student_loss_weight, 0, most=1, hint="a share of the loss")
    check_number("feature_weight", feature_weight, 0, "1 counts squared differences as they are")
    pairs = _pairs(features, student, teacher)
    if temperature is None and not pairs:
        raise ValueError(
            f"temperature=None and features={shown(features)}: the teacher would teach nothing; "
            f"give a temperature such as 3, or features={_FEATURES}"
        )
    soft = None
    if temperature is not None:
        soft = SoftTargets(temperature, *output_kinds(teacher, student, from_logits))
    made = Lesson(teacher, student, soft, pairs, student_loss_weight, feature_weight)
    given = keras_private.compile_arguments(student)
    handed_on = given.keys() & {"run_eagerly", "jit_compile"}
    options: dict[str, Any] = {name: given[name] for name in handed_on}
    options["steps_per_execution"] = given.get("steps_per_execution") or 1
    for name in ("metrics", "weighted_metrics"):  # in lists or dicts
        options[name] = [m for m in keras.tree.flatten(given.get(name)) if m is not None] or None
    made.compile(student.optimizer, student.loss, **options)
    return made


def taught(
    fit: Callable[..., Any], teacher: Any, model: Model, name: str = "teacher"
) -> Callable[..., Any]:
    """`fit`, which is given a Distiller around the model that is to be trained.

    Args:
        fit: function called as `fit(model, epochs=..., callbacks=[...])`.
        teacher: a model; "dense" for a frozen copy of `model` as it is now; a function of the
            student that returns a Distiller around it; None: nobody teaches.
        model: the student.
        name: of the argument, for messages.

    Raises TypeError, ValueError for another teacher.

    Example:
        >>> taught(print, None, None) is print
        True
    """
    if teacher is None:
        return fit
    if isinstance(teacher, str) and teacher == "dense":
        teacher = copy_model(model)
    if isinstance(teacher, keras.Model):
        made = distiller(model, teacher)
    elif callable(teacher):
        made = teacher(model)
        if not isinstance(made, keras.distillation.Distiller) or made.student is not model:
            raise ValueError(
                f"{name}= returned {shown(made)}; it must return a Distiller around the model that "
                "it is given, as in teacher=lambda student: ap.distiller(student, dense)"
            )
    else:
        raise TypeError(
            f"{name}={shown(teacher)}; give a model, 'dense' for a copy of the model as it is now, "
            "or a function such as lambda student: ap.distiller(student, dense, temperature=5)"
        )
    return lambda _, **more: fit(made, **more)


def _check_models(student: Any, teacher: Any) -> None:
    for name, model in (("student", student), ("teacher", teacher)):
        if not isinstance(model, keras.Model) or isinstance(model, keras.distillation.Distiller):
            raise TypeError(f"{name}={shown(model)}; give a plain keras.Model")
        if not model.built:
            raise ValueError(
                f"{name}: model {model.name!r} is not built, so it has no weights yet; give it an "
                "Input layer, or call it on a batch of data"
            )
        if len(keras.tree.flatten(getattr(model, "outputs", None) or [1])) > 1:
            raise ValueError(
                f"{name}: model {model.name!r} has several outputs; one is allowed. Make a "
                "keras.distillation.Distiller of your own, with a loss for each of them"
            )
    held = {id(weight) for weight in teacher.weights}
    if teacher is student or any(id(weight) in held for weight in student.weights):
        raise ValueError(
            "teacher is the student itself or shares weights with it, and would change with it: "
            "give a copy made before pruning, teacher = keras.models.clone_model(model); "
            "teacher.set_weights(model.get_weights())"
        )
    shapes = [getattr(model, "output_shape", None) for model in (teacher, student)]
    if None not in shapes:
        check_shapes("outputs", *shapes)
    _check_compiled(student)


def _check_compiled(student: Any) -> None:
    if not student.compiled or student.loss is None or student.optimizer is None:
        raise ValueError(
            f"student: model {student.name!r} is not compiled with an optimizer and a loss, by "
            "which it shall learn; call student.compile(optimizer, loss, metrics=[...]) first"
        )
    methods = ("train_step", "compute_loss")
    own = [m for m in methods if getattr(type(student), m) is not getattr(keras.Model, m)]
    if own:
        raise ValueError(
            f"student: {type(student).__name__} has {', '.join(own)} of its own, which a Distiller "
            "does not call; write a Distiller of your own, whose train_step does both"
        )


def _pairs(features: Any, student: Any, teacher: Any) -> list[Any]:
    """[(layer of the student, layer of the teacher)]."""
    if features is None:
        return []
    if not isinstance(features, Mapping) or not features:
        raise TypeError(f"features={shown(features)}; give {_FEATURES}, or None")
    pairs = []
    for own, other in features.items():
        pair = _layer(own, student, "student"), _layer(other, teacher, "teacher")
        shapes = [_shape(layer) for layer in reversed(pair)]
        if None not in shapes:
            check_shapes(f"features {other!r}", *shapes)
        pairs.append(pair)
    return pairs


def _layer(name: Any, model: Any, whose: str) -> Any:
    layers = [one for one in keras_private.with_sublayers(model) if one is not model]
    found = [one for one in layers if one.name == name]
    if len(found) == 1:
        return found[0]
    names = sorted({one.name for one in layers})
    if found:
        what = f"stands for {len(found)} layers of the {whose}; rename them, or choose another one"
    else:
        hint = did_you_mean(name, names, opening=" Did") if isinstance(name, str) else ""
        what = f"is no layer of the {whose}.{hint} There are: {shortened(names)}."
    raise ValueError(f"features: {shown(name)} {what}")


def _shape(layer: Any) -> Any:
    """The shape of a layer's output, None where it is not known before it runs."""
    try:
        shape = layer.output.shape
    except (AttributeError, ValueError):  # of no graph, or called several times
        return None
    return shape
