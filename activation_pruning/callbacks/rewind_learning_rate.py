"""The callback that starts the curve of the learning rate over when weights have been pruned."""

from collections.abc import Callable
from typing import Any

import keras

from activation_pruning import keras_private
from activation_pruning.callbacks.agenda import Clock
from activation_pruning.callbacks.base import EventListener
from activation_pruning.support.checks import check_count, check_number
from activation_pruning.support.shown import shown


class RewindLearningRate(EventListener):
    """Start the curve of the learning rate over at pruning events, or every so many steps.

    learning rate of a step = curve(training steps since the last rewind, or since `fit` began),
    so that the network that an event leaves behind has large steps first to recover, and then small
    ones. With `schedules.Polynomial`, whose cubic curve may begin with a large `initial_sparsity`,
    and the criterion "magnitude" this is GMP*. `history` gets the rate of each epoch's last step.

    With `steps_per_execution` above 1 the rate changes once in each execution. A resumed fit goes
    on where it was with `every` alone; otherwise its first rewind is when it begins.

    Args:
        curve: function of a number of steps, from 0: an object of `keras.optimizers.schedules`, or
            one of your own; its values are finite and at least 0.
        pruner: the `PruningCallback` of the same fit, whose events rewind; or None.
        every: steps from one rewind to the next, at least 1, counted from the last event if there
            is a pruner; or None. One of the two must be given.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range; as `fit` begins, for an
            optimizer whose learning rate follows a curve of its own.

    Source: Kurtic & Alistarh, "GMP*: Well-Tuned Gradual Magnitude Pruning Can Outperform Most
    BERT-Pruning Methods", 2022 (arXiv:2210.06384).

    Example:
    >>> import keras, numpy as np, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> cubic = ap.schedules.Polynomial(0.8, begin=2, end=4, frequency=2)
    >>> pruner = ap.PruningCallback(cubic, "magnitude")
    >>> rewind = ap.RewindLearningRate(lambda step: 0.5 / (1 + step), pruner)
    >>> fit = model.fit(np.zeros((8, 4)), np.zeros((8, 1)), batch_size=8, epochs=5, verbose=0,
    ...                 callbacks=[pruner, rewind])
    >>> fit.history["learning_rate"]
    [0.5, 0.25, 0.5, 0.25, 0.5]
    """

    def __init__(
        self, curve: Callable[[int], Any], pruner: Any = None, every: int | None = None
    ) -> None:
        super().__init__(pruner)
        if not callable(curve) or isinstance(curve, type):
            raise TypeError(
                f"curve={shown(curve)}; give a function of the steps since the last rewind, such "
                "as keras.optimizers.schedules.PolynomialDecay(1e-4, decay_steps=1000)"
            )
        if every is not None:
            check_count("every", every, 1)
        elif pruner is None:
            raise ValueError(
                "pruner=None and every=None: nothing would ever rewind; give the PruningCallback "
                "of the same fit, or a number of steps"
            )
        self.curve, self.every = curve, every

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        (optimizer, *_) = keras_private.optimizers(self.trainer)
        given = optimizer.get_config().get("learning_rate")
        if not isinstance(given, (int, float)):
            raise ValueError(
                f"the optimizer has learning_rate={shown(given)}, a curve of its own; compile the "
                "model with a number, and give the curve to RewindLearningRate(curve=...)"
            )
        self._clock = Clock(self.params, "step")
        self._rewound = 0
        self._rate: float | None = None  # of the last step

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        since = self._clock.step - self._rewound
        rate = self.curve(since if self.every is None else since % self.every)
        rate = float(keras.ops.convert_to_numpy(rate))
        check_number("the learning rate of the curve", rate, 0, f"at step {since}")
        if rate != self._rate:
            keras_private.sync(self.trainer)
            self.trainer.optimizer.learning_rate = self._rate = rate

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._clock.end_batch(batch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {} if logs is None else logs
        self._clock.end_epoch(epoch, logs)
        self._clock.begin_epoch()  # the next
        logs["learning_rate"] = self._rate

    def _begin(self, epoch):
        self._clock.start(epoch)
        self._rewound = 0 if self.pruner is None else self._clock.step

    def _event(self, rows, epoch, step):
        self._rewound = step
