"""The same final sparsity by every schedule: when is it best to prune?

A network is trained for a fixed number of epochs and pruned meanwhile, always to the same final
sparsity and by the same criterion: once, before training, early or halfway; again and again to the
final sparsity; by linear, polynomial and exponential steps; when the accuracy reaches rising levels
(the paper's schedule); by a fraction of what is alive every other epoch, or whenever the validation
accuracy has become flat.

    python schedules_compared.py --dataset mnist --jobs 2

Sources: Zhu & Gupta 2017 (polynomial); Ganguli & Chong, Algorithms 17(1):48, 2024 (by accuracy).
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import activation_pruning as ap
from lab import arms_report, command_line, plain, publication, study

NAME = "schedules_compared"
ARMS = (
    "before_training", "one_shot_early", "one_shot_halfway", "linear", "polynomial", "exponential",
    "by_accuracy", "every_other_epoch", "when_flat",
)  # fmt: skip
PARTS = 6  # events of the schedules that say by how much
QUICK = "--seeds 2 --hidden 40 20 --epochs 24 --sparsities 0.8"


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "The same final sparsity by every schedule."
    parser = command_line.shared_parser(NAME, about, ARMS)
    plain.add_options(parser, hidden=[300, 100], epochs=24, digits=40)
    add = parser.add_argument
    sparsities = [0.8, 0.9, 0.95, 0.98]
    add("--sparsities", nargs="+", type=command_line.share, default=sparsities, help="final ones")
    add("--criterion", choices=sorted(ap.criteria.CRITERIA), default="magnitude", metavar="NAME",
        help="which weights go")  # fmt: skip
    for name, which in (("start", "first"), ("stop", "last")):
        values = ", ".join(f"{key} {own[name]}" for key, own in command_line.DEFAULTS.items())
        told = f"by_accuracy: training accuracy of the {which} event (default: {values})"
        add(f"--{name}", type=command_line.share, default=argparse.SUPPRESS, help=told)
    return study.run(parser, arguments, grid, work, publish, describe)


def grid(options, data: str) -> list[dict]:
    """One settings dict per seed, sparsity and arm, seeds outermost."""
    shared = plain.shared(options, data)
    if options.epochs < 4 * PARTS:
        raise ValueError(
            f"--epochs {options.epochs}: {PARTS} events, two epochs apart, do not fit into "
            f"the first half; give {4 * PARTS} or more"
        )
    levels = command_line.DEFAULTS.get(options.dataset, command_line.DEFAULTS["mnist"])
    for name in ("start", "stop"):
        setattr(options, name, getattr(options, name, levels[name]))
    if options.start > options.stop:
        raise ValueError(f"--start {options.start} is above --stop {options.stop}")
    more = {"criterion": options.criterion, "start": options.start, "stop": options.stop}
    return [
        {"arm": arm, "seed": seed, "sparsity": sparsity, "events": 1} | shared | more
        for seed in range(options.seeds)
        for sparsity in options.sparsities
        for arm in options.arms
    ]


def schedule(settings: dict):
    """The schedule of an arm: all but `by_accuracy` end at half of the epochs or before."""
    final, half = settings["sparsity"], settings["epochs"] // 2
    share = 1 - (1 - final) ** (1 / PARTS)
    return {
        "before_training": ap.schedules.OneShot(final, at=0),
        "one_shot_early": ap.schedules.OneShot(final, at=1),
        "one_shot_halfway": ap.schedules.OneShot(final, at=half),
        "linear": ap.schedules.Linear(final, begin=1, end=half),
        "polynomial": ap.schedules.Polynomial(final, begin=1, end=half),
        "exponential": ap.schedules.Exponential(final, begin=1, end=half),
        "by_accuracy": ap.schedules.AccuracyTriggered(
            settings["start"], settings["stop"], PARTS, final
        ),
        "every_other_epoch": ap.schedules.Every(share, frequency=2, final_sparsity=final),
        "when_flat": ap.schedules.Iterative(
            share, ap.retraining.UntilFlat(at_most=half // PARTS), final_sparsity=final
        ),
    }[settings["arm"]]


def work(settings: dict) -> tuple[dict, dict]:
    """Train and prune one network; runs in a worker process."""
    data = plain.split(settings)
    model, measure = plain.untrained(settings, data), plain.Measure(data)
    pruner = ap.PruningCallback(schedule(settings), settings["criterion"], seed=settings["seed"])
    begun = time.perf_counter()
    with study.warned() as told:
        plain.fit(settings, data, itertools.count(1), model, settings["epochs"], [pruner])
    result = {"time_s": time.perf_counter() - begun, "validation_accuracy": measure(model)}
    table = pruner.table()
    result |= measure.others() | plain.of_events(table)
    result |= {"last_event_epoch": int(table["epoch"].max()) if len(table) else 0}
    result |= {"events": table.to_dict("records"), "epochs": settings["epochs"]}
    return result | {"warnings": told}, {}


def describe(result: dict) -> str:
    """Say in a few words how a trial ended."""
    return (
        f"test accuracy {result['test_accuracy']:.4f} at {result['sparsity']:.2%}, "
        f"{result['events_fired']} events, the last after {result['last_event_epoch']} epochs"
    )


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    runs = plain.runs(records, ("arm", "seed", "sparsity"))
    short = runs[runs["sparsity"] < runs["target_sparsity"] - 1e-3]
    missed = [
        f"{arm} at {sparsity:.0%}: {len(rows)} trial(s) ended at less and are left out."
        for (arm, sparsity), rows in short.groupby(["arm", "target_sparsity"], sort=False)
    ]
    return arms_report.compared(
        runs.drop(short.index), NAME, "Schedules compared",
        baseline="polynomial" if "polynomial" in set(runs["arm"]) else runs["arm"].iloc[0],
        metrics=("train_accuracy", "events_fired", "last_event_epoch", "time_s"),
        about=f"Criterion: {options['criterion']}; every training has {options['epochs']} epochs.",
        more={"Events": publication.rows(records, "events")},
        told=missed,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
