"""Trained networks, pruned without training again: the arms, and the work of one run."""

import time
from dataclasses import dataclass

import keras
import numpy as np

import activation_pruning as ap
from lab import command_line, dense, network, study

EXACT = "lobs"


@dataclass(frozen=True)
class Arm:
    """One way of pruning, as `ap.prune` takes it."""

    criterion: object
    allocation: str
    granularity: str = "weight"
    sequential: bool = False
    exclude: tuple | None = None


def add_options(parser, hidden: list[int], epochs: int, digits: int, calibration: int) -> None:
    """Add what the training takes to a parser; `epochs` by default, `digits` on digits."""
    add, count = parser.add_argument, command_line.count
    add("--hidden", nargs="+", type=count, default=hidden, help="units by layer")
    add("--learning-rate", type=command_line.positive, default=0.1, help="of SGD")
    add("--batch-size", type=count, default=64, help="samples in a training step")
    told = f"of training (default: digits {digits}, others {epochs})"
    add("--epochs", type=count, help=told)
    add("--calibration", type=count, default=calibration, help="training images used")
    parser.set_defaults(epochs_by_default=(epochs, digits))


def grid(options, data: str, **more) -> list[dict]:
    """One settings dict per seed and arm, seeds outermost; `more` is of the experiment."""
    epochs, digits = vars(options).pop("epochs_by_default")
    options.epochs = options.epochs or (digits if options.dataset == "digits" else epochs)
    options.arms = list(dict.fromkeys(options.arms))
    names = ("dataset", "hidden", "learning_rate", "batch_size", "epochs", "calibration")
    shared = {name: getattr(options, name) for name in names}
    shared |= {"data": data} | study.versions() | more
    # A run is a whole curve: it has no sparsity of its own.
    return [
        {"arm": arm, "seed": seed, "sparsity": 0.0, "events": 0} | shared
        for seed in range(options.seeds)
        for arm in options.arms
    ]


def begin(settings: dict) -> tuple[keras.Model, dict, tuple, list[dict]]:
    """(dense network, data, calibration samples and labels, the row of the dense network)."""
    model, arrays = dense.trained(settings)
    size = min(settings["calibration"], len(arrays["x_train"]))
    chosen = np.random.default_rng(settings["seed"]).permutation(len(arrays["x_train"]))[:size]
    calibration = arrays["x_train"][chosen], arrays["y_train"][chosen]
    return model, arrays, calibration, [measured(model, arrays, 0.0, 0.0)]


def measured(model, arrays: dict, sparsity: float, time_s: float) -> dict:
    """One point of a curve: what the network is and does now."""
    kernels = [np.array(layer.kernel) for layer in model.layers]
    weights, alive = sum(k.size for k in kernels), sum(int(np.count_nonzero(k)) for k in kernels)
    found = network.scores(model, arrays["x_test"], arrays["y_test"])
    return {
        "target_sparsity": sparsity,
        "sparsity": 1 - alive / weights,
        "compression": weights / max(alive, 1),
        "test_accuracy": found["accuracy"],
        "test_loss": found["loss"],
        "time_s": time_s,
    }


def from_dense(settings: dict, arm: Arm, sparsities) -> tuple[dict, dict]:
    """Prune the dense network to each sparsity in one step, every time from the start."""
    model, arrays, calibration, rows = begin(settings)
    start = model.get_weights()
    begun = time.perf_counter()
    arm = _scored(model, arm, calibration, settings["seed"])
    scoring = time.perf_counter() - begun
    told = []
    for sparsity in (s for s in sparsities if s):
        model.set_weights(start)
        begun = time.perf_counter()
        told += prune(model, arm, [sparsity], calibration, settings["seed"])
        rows.append(measured(model, arrays, sparsity, scoring + time.perf_counter() - begun))
    return finished(rows, told), {}


def step_by_step(settings: dict, arm: Arm, sparsities, between=None) -> tuple[dict, dict]:
    """Prune from one sparsity to the next, scoring anew each time.

    between: function of (model, data, settings) to train the network after each step, or None.
    """
    model, arrays, calibration, rows = begin(settings)
    told, begun = [], time.perf_counter()
    for sparsity in (s for s in sparsities if s):
        told += prune(model, arm, [sparsity], calibration, settings["seed"])
        if between:
            between(model, arrays, settings)
        rows.append(measured(model, arrays, sparsity, time.perf_counter() - begun))
    return finished(rows, told), {}


def prune(model, arm: Arm, sparsities, calibration, seed: int, between=None) -> list[str]:
    """Prune to one sparsity after the other; returns what was warned of."""
    with study.warned() as told:
        ap.prune(
            model,
            sparsities,
            arm.criterion,
            arm.allocation,
            arm.granularity,
            data=calibration,
            exclude=arm.exclude,
            seed=seed,
            sequential=arm.sequential,
            between=between,
            verbose=0,
        )
    return told


def finished(rows: list[dict], told: list[str]) -> dict:
    """The result of a run."""
    last = {name: rows[-1][name] for name in ("test_accuracy", "sparsity", "time_s")}
    return {"curve": rows, "warnings": sorted(set(told))} | last


def describe(result: dict) -> str:
    """Say in a few words how a run ended."""
    points = ", ".join(
        f"{row['test_accuracy']:.4f} at {row['target_sparsity']:.0%}"
        for row in result["curve"][-3:]
    )
    return f"test accuracy {points}; {result['time_s']:.0f} s"


def _scored(model, arm, calibration, seed):
    """The arm with its scores known, where they are the same for every sparsity."""
    if arm.sequential or (arm.criterion != EXACT and arm.criterion not in ap.criteria.CRITERIA):
        return arm
    if getattr(ap.surgeons.get(arm.criterion), "rounds", 1) > 1:
        return arm
    scores = ap.scores(model, arm.criterion, calibration, exclude=arm.exclude, seed=seed, verbose=0)
    criterion = lambda site: scores[site.name]  # noqa: E731
    if arm.criterion == EXACT:
        criterion = ap.surgeons.LayerwiseOBS(known_scores=scores)
    return Arm(criterion, arm.allocation, arm.granularity, arm.sequential, arm.exclude)
