"""Accuracy against compression for brain surgeons and simpler criteria, without training again.

LeNet-300-100 (784-300-100-10, L2-regularised) is trained on MNIST and pruned from one sparsity to
the next, all layers together, scored anew at each; 10,000 training images calibrate. Layer-wise
Optimal Brain Surgeon comes exact (`lobs`: the inverse is downdated after every weight) and with
inverses recalculated only every 2,000 weights (`lobs_2000`), the latter also with three training
steps after every 2,000 (`lobs_2000_trained`, the one arm that trains).

    python brain_surgeon.py --dataset mnist --jobs 2

Sources: Dong, Chen & Pan, NeurIPS 2017; Frantar & Alistarh, NeurIPS 2022 and ICML 2023; LeCun,
Denker & Solla, NIPS 1989; Sun et al., ICLR 2024; Augasta & Kathirvalavakumar, 2011.
"""

import sys
import time

import numpy as np

import activation_pruning as ap
from lab import command_line, oneshot, oneshot_report, study
from lab.oneshot import Arm

SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99)
BLOCK = 2000
EVERYTHING = ()  # the output layer as well
ARMS = {
    "magnitude": Arm("magnitude", "global", exclude=EVERYTHING),
    "activation_magnitude": Arm("activation_magnitude", "global", exclude=EVERYTHING),
    "wanda": Arm("wanda", "global", exclude=EVERYTHING),
    "obd": Arm("obd", "global", exclude=EVERYTHING),
    "sparsegpt": Arm("sparsegpt", "uniform", exclude=EVERYTHING),
    "n2ps": Arm("n2ps", "global", "unit"),  # units of the output layer are the classes
    "lobs": Arm("lobs", "global", exclude=EVERYTHING),
    "lobs_2000": Arm(
        ap.surgeons.LayerwiseOBS(recalculate_every=BLOCK), "global", exclude=EVERYTHING
    ),
}
ARMS["lobs_2000_trained"] = ARMS["lobs_2000"]
QUICK = "--hidden 30 20 --epochs 20 --seeds 2 --calibration 500"


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Accuracy against compression for brain surgeons, without training again."
    parser = command_line.shared_parser(oneshot_report.SURGEON, about, tuple(ARMS))
    oneshot.add_options(parser, [300, 100], epochs=10, digits=60, calibration=10_000)
    add, told = parser.add_argument, "training steps of lobs_2000_trained"
    add("--l2", type=float, default=1e-4, help="strength of the L2 regularizer")
    add("--steps", type=command_line.count, default=3, help=told)
    publish = oneshot_report.publish_surgeon
    return study.run(parser, arguments, grid, work, publish, oneshot.describe)


def grid(options, data: str) -> list[dict]:
    """One settings dict per run."""
    more = {"init": "glorot", "biases": True, "l2": options.l2, "steps": options.steps}
    return oneshot.grid(options, data, **more)


def work(settings: dict) -> tuple[dict, dict]:
    """The curve of one arm and seed; runs in a worker process."""
    if settings["arm"] == "lobs_2000_trained":
        return _trained_in_between(settings)
    return oneshot.step_by_step(settings, ARMS[settings["arm"]], SPARSITIES)


def _trained_in_between(settings):
    """Prune in blocks of 2,000 weights with a few training steps after each."""
    model, arrays, calibration, rows = oneshot.begin(settings)
    weights = sum(int(np.prod(layer.kernel.shape)) for layer in model.layers)
    generator = np.random.default_rng(settings["seed"])
    begun, told, done = time.perf_counter(), [], 0
    for sparsity in SPARSITIES:
        goal = round(sparsity * weights)
        ends = [*range(done + BLOCK, goal, BLOCK), goal]
        for end in ends:
            arm = ARMS["lobs_2000"]
            told += oneshot.prune(model, arm, [end / weights], calibration, settings["seed"])
            _train(model, arrays, settings, generator)
        done = goal
        rows.append(oneshot.measured(model, arrays, sparsity, time.perf_counter() - begun))
    return oneshot.finished(rows, told), {}


def _train(model, arrays, settings, generator):
    """A few steps with the masks, on batches drawn at random."""
    size = settings["steps"] * settings["batch_size"]
    chosen = generator.permutation(len(arrays["x_train"]))[:size]
    model.fit(
        arrays["x_train"][chosen],
        arrays["y_train"][chosen],
        batch_size=settings["batch_size"],
        verbose=0,
        callbacks=[ap.KeepPruned()],
    )


if __name__ == "__main__":
    sys.exit(main())
