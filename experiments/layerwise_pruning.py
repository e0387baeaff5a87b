"""Units that fire rarely, one layer per event: does the choice by activity pay?

The layer-wise pruning of the paper's published code: while a network trains, every few epochs the
units whose activation frequency is below mean - k x standard deviation of their layer go, of one
layer after the other (`in_turn`) or of all at once (`all`); the counts go on over the events
(`kept`) or begin anew after each (`reset`). As many units of each layer at each event, but chosen
at random, or by the norm of their weights, say what the choice is worth. At the end the network is
compacted: what is pruned is really gone.

    python layerwise_pruning.py --dataset mnist --jobs 2

Source: Ganguli & Chong, Algorithms 17(1):48, 2024, and its published code.
"""

import itertools
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import activation_pruning as ap
from lab import arms_report, command_line, plain, publication, study

NAME = "layerwise_pruning"
CRITERIA = ("activation", "random", "unit_norm")


class Way(NamedTuple):
    """Whether one layer after the other is pruned, and whether counts begin anew after it."""

    in_turn: bool
    reset: bool


WAYS = {
    "in_turn_kept": Way(in_turn=True, reset=False),
    "in_turn_reset": Way(in_turn=True, reset=True),
    "all_kept": Way(in_turn=False, reset=False),
    "all_reset": Way(in_turn=False, reset=True),
}
ARMS = {f"{criterion}-{way}": (criterion, way) for way in WAYS for criterion in CRITERIA}
QUICK = "--seeds 2 --hidden 40 20 --epochs 12 --deviations 0.5"


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Units below a threshold of activity, layer by layer, against others."
    parser = command_line.shared_parser(NAME, about, tuple(ARMS))
    plain.add_options(parser, hidden=[300, 200, 100], epochs=20, digits=40)
    add = parser.add_argument
    number, told = command_line.number, "k of the threshold"
    add("--deviations", nargs="+", type=number, default=[0.5, 1.0, 1.5], help=told)
    add("--frequency", type=command_line.count, default=2, help="epochs between two events")
    return study.run(parser, arguments, grid, work, publish, describe)


def grid(options, data: str) -> list[dict]:
    """One settings dict per seed, threshold and arm, seeds outermost."""
    shared = plain.shared(options, data) | {"frequency": options.frequency}
    if options.frequency > options.epochs // 2:
        raise ValueError(
            f"--frequency {options.frequency}: no event fits into the first half of --epochs "
            f"{options.epochs}"
        )
    return [
        {"arm": arm, "seed": seed, "deviations": k, "sparsity": 0.0, "events": 1} | shared
        for seed in range(options.seeds)
        for k in options.deviations
        for arm in options.arms
    ]


def work(settings: dict) -> tuple[dict, dict]:
    """Train and prune one network; runs in a worker process."""
    criterion, way = ARMS[settings["arm"]]
    data, how = plain.split(settings), _by_activity(settings, WAYS[way])
    with study.warned() as told:
        model, pruner, result = _trained(settings, data, "activation", how)
        if criterion != "activation":  # the same numbers of units at the same events
            again = _as_recorded(pruner.table(), settings)
            model, pruner, result = _trained(settings, data, criterion, again)
    measure = plain.Measure(data)
    result["validation_accuracy"] = measure(model)
    small = ap.compact(model)
    result |= measure.others()
    result |= {"parameters": small.count_params(), "parameters_before": model.count_params()}
    table = pruner.table()
    last = table[table["event"] == table["event"].max()]
    result |= {"epochs": settings["epochs"], "layers": last.to_dict("records")}
    return result | {"warnings": told}, {}


def describe(result: dict) -> str:
    """Say in a few words how a trial ended."""
    return (
        f"test accuracy {result['test_accuracy']:.4f} at {result['sparsity']:.2%}, "
        f"{result['parameters']:,} parameters left, {result['events_fired']} events"
    )


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    runs = plain.runs(records, ("arm", "seed", "deviations"))
    runs["way"] = [ARMS[arm][1] for arm in runs["arm"]]
    runs["arm"] = [ARMS[arm][0] for arm in runs["arm"]]
    means = runs[runs["arm"] == "activation"].groupby(["way", "deviations"], sort=False)
    told = [
        f"{way}, k = {k:g}: {rows['sparsity'].mean():.0%} of the weights pruned, "
        f"{rows['parameters'].mean():,.0f} of {rows['parameters_before'].iloc[0]:,} parameters."
        for (way, k), rows in means
    ]
    return arms_report.compared(
        runs, NAME, "Layer-wise pruning by activity",
        baseline="activation",
        by=("deviations", "way"),
        metrics=("train_accuracy", "sparsity", "parameters", "events_fired", "time_s"),
        about="deviations: k of the threshold mean - k x standard deviation.",
        more={"Layers": publication.rows(records, "layers")},
        told=told,
        where=lambda k, way: f"{way}, k = {k:g}",
    )  # fmt: skip


def _trained(settings, data, criterion, how):
    """(model, callback, result) of one training with an event every few epochs."""
    model, how = plain.untrained(settings, data), how | {"seed": settings["seed"]}
    pruner = ap.PruningCallback(criterion=criterion, granularity="unit", **how)
    begun = time.perf_counter()
    plain.fit(settings, data, itertools.count(1), model, settings["epochs"], [pruner])
    result = {"time_s": time.perf_counter() - begun}
    return model, pruner, result | plain.of_events(pruner.table())


def _every(settings, amount):
    frequency = settings["frequency"]
    # The second half of the training is for recovering.
    return ap.schedules.Every(amount, frequency, begin=frequency, end=settings["epochs"] // 2)


def _by_activity(settings, way):
    amount = ap.amounts.BelowMean(settings["deviations"])
    amount = ap.amounts.InTurn(amount) if way.in_turn else amount
    return {"schedule": _every(settings, amount), "reset_counts": way.reset}


class _Recorded(ap.amounts.ByScores):
    """An amount: of each site what another run pruned at the same event."""

    def __init__(self, counts):
        self.counts = counts

    def __call__(self, sites, items, allocation):
        pruned = sum(self.counts[site.name] for site in sites)
        taken = {}
        for site in sites:
            own, dead = items[site.name], int(np.count_nonzero(~site.mask))
            each = site.mask.size // len(own.scores)
            before = int(np.count_nonzero(own.scores == -np.inf))
            taken[site.name] = before + max(self.counts[site.name] - dead, 0) // each
        return pruned / sum(site.mask.size for site in sites), lambda *_: taken


class _InOrder(ap.amounts.Amount):
    """An amount for each event, in order."""

    def __init__(self, amounts):
        self.amounts = amounts

    def target(self, weights, pruned, event=0):
        return self.amounts[min(event, len(self.amounts) - 1)]


def _as_recorded(table, settings):
    counts = [
        _Recorded(dict(zip(rows["site"], rows["pruned"], strict=True)))
        for _, rows in table.groupby("event", sort=True)
    ]
    return {
        "schedule": _every(settings, _InOrder(counts)) if counts else ap.schedules.Constant(0.0)
    }


if __name__ == "__main__":
    sys.exit(main())
