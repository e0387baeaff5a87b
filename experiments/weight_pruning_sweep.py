"""How far can a trained network be pruned in one step, without training again?

A network 784-1000-1000-500-200-10 without biases is trained on MNIST by SGD (learning rate 0.1,
batch size 64) for four epochs, and pruned in one step to each of nine sparsities, the same share of
every layer, by weight or by unit, the output layer untouched; 2,048 training images calibrate the
criteria that look at data. Published for such a network, and drawn beside: magnitude by weight, L2
norm by unit.

    python weight_pruning_sweep.py --dataset mnist --jobs 2
    python weight_pruning_sweep.py --dataset mnist --jobs 2 --granularity unit
"""

import sys
from pathlib import Path

from lab import command_line, oneshot, oneshot_report, study
from lab.oneshot import Arm

SPARSITIES = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
BY_WEIGHT = {
    name: Arm(name, "uniform")
    for name in (
        "magnitude", "random", "activation", "activation_magnitude", "mean_activation",
        "wanda", "obd", "obd_hutchinson", "taylor", "snip", "grasp", "synflow",
        "sparsegpt", "lobs",
    )
} | {"sparsegpt_sequential": Arm("sparsegpt", "uniform", sequential=True)}  # fmt: skip
BY_UNIT = {
    name: Arm(name, "uniform", "unit")
    for name in (
        "unit_norm", "random", "activation", "mean_activation", "obd", "taylor",
        "taylor_activation", "snip", "n2ps", "unit_obs",
    )
} | {"unit_obs_sequential": Arm("unit_obs", "uniform", "unit", sequential=True)}  # fmt: skip
# Of a network like this one, on MNIST: the curve to beat.
PUBLISHED = {
    "weight": (0.9740, 0.9741, 0.9733, 0.9722, 0.9721, 0.9700, 0.9640, 0.9352, 0.8915, 0.5479),
    "unit": (0.9740, 0.9706, 0.9591, 0.9445, 0.8988, 0.6073, 0.4270, 0.2962, 0.1093, 0.0928),
}
QUICK = "--hidden 60 30 --epochs 20 --seeds 2 --calibration 500"


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Prune a trained network in one step by every criterion, without training again."
    arms = tuple(dict.fromkeys([*BY_WEIGHT, *BY_UNIT]))
    parser = command_line.shared_parser(oneshot_report.SWEEP, about, (), arms)
    add = parser.add_argument
    add("--granularity", choices=("weight", "unit"), default="weight", help="what is removed")
    hidden = [1000, 1000, 500, 200]
    oneshot.add_options(parser, hidden, epochs=4, digits=40, calibration=2048)
    add("--init", choices=("fan_in", "glorot"), default="fan_in", help="of the weights")
    return study.run(parser, arguments, grid, work, publish, oneshot.describe)


def grid(options, data: str) -> list[dict]:
    """One settings dict per run."""
    known = BY_WEIGHT if options.granularity == "weight" else BY_UNIT
    options.arms = options.arms or list(known)
    unknown = [arm for arm in options.arms if arm not in known]
    if unknown:
        raise ValueError(f"--arms {unknown} do not prune by {options.granularity}: {list(known)}")
    more = {"granularity": options.granularity, "init": options.init, "biases": False, "l2": 0.0}
    return oneshot.grid(options, data, **more)


def work(settings: dict) -> tuple[dict, dict]:
    """The curve of one arm and seed; runs in a worker process."""
    known = BY_WEIGHT if settings["granularity"] == "weight" else BY_UNIT
    return oneshot.from_dense(settings, known[settings["arm"]], SPARSITIES)


def publish(records: list[dict], out: Path, options: dict) -> None:
    """See `publication.publishing`; on MNIST with the published curve."""
    published = dict(zip(SPARSITIES, PUBLISHED[options["granularity"]], strict=True))
    mnist = options["dataset"] == "mnist"
    oneshot_report.publish_sweep(records, out, options, published if mnist else {})


if __name__ == "__main__":
    sys.exit(main())
