"""Schedules asked, one moment after the other."""

from activation_pruning.schedules import AccuracyTriggered, Progress


def ask(schedule, times, by="epoch"):
    """The schedule's answers, rounded for reading."""
    answers = []
    for time in times:
        epoch, step = (time, 100 * time) if by == "epoch" else (time // 100, time)
        answer = schedule(Progress(epoch, step, {"loss": 1.0}, 0.0, epochs=10))
        answers.append(answer if answer is None else round(answer, 6))
    return answers


def at(value, sparsity, monitor="accuracy", **known):
    """Progress at an epoch's end with this metric and sparsity."""
    return Progress(3, 30, {monitor: value, "loss": 1.0} | known, sparsity, epochs=20)


PAPER = AccuracyTriggered(start=0.80, stop=0.98, events=4, final_sparsity=0.8)
