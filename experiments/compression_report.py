"""One report on the compression of one network: ten tables, all measured, each with its chart.

A network is trained (or read from a .keras file with softmax outputs), pruned by weight in steps
with a little training after each, and by unit, its units then taken out. The workbook says what
that does to accuracy, size, connections and time, how pruning at random compares, and what a
threshold on the magnitude gives.

    python compression_report.py --dataset mnist --network lenet_300_100
"""

import hashlib
import sys
from pathlib import Path

import compression_report_bench as bench
import compression_report_tables as tables

from lab import command_line, images, study

SETTINGS = ("dataset", "network", "criterion", "sparsities", "sparsity", "unit_sparsity")
SETTINGS += ("thresholds", "epochs", "fine_tune", "learning_rate", "batch_size", "rounds", "seed")
QUICK = "--sparsities 0.5 0.9 --thresholds 5 --rounds 5"


def main(arguments: list[str] | None = None) -> int:
    """Make the report; return the exit code, see `study.run`."""
    return study.run(_parser(), arguments, grid, bench.work, tables.publish, describe)


def grid(options, data: str) -> list[dict]:
    """The settings dict of the one run."""
    if options.network not in images.NETWORKS and not Path(options.network).is_file():
        known = ", ".join(images.NETWORKS)
        raise ValueError(f"--network {options.network}: neither one of {known} nor a .keras file")
    if options.rounds < 2:
        raise ValueError(f"--rounds {options.rounds}: quartiles need 2 at least")
    options.sparsities = sorted({*options.sparsities, options.sparsity})
    images.load(options.dataset)  # raises for data that cannot serve
    settings = {name: getattr(options, name) for name in SETTINGS}
    settings |= {"arm": "report", "events": 0, "data": data} | study.versions()
    if Path(options.network).is_file():  # another file of the same name is another network
        digest = hashlib.sha256(Path(options.network).read_bytes()).hexdigest()
        settings["network_file"] = digest[:12]
    return [settings]


def describe(result: dict) -> str:
    """Say in a few words how it ended."""
    told = ", ".join(f"{row['network']} {row['test_accuracy']:.4f}" for row in result["accuracy"])
    return f"test accuracy {told}; {result['time_s']:.0f} s"


def _parser():
    about = "One report on the compression of one network."
    parser = command_line.Parser(tables.NAME, about)
    add = parser.add_argument
    told = f"{', '.join(images.NETWORKS)}, or a .keras file"
    add("--network", default="lenet_300_100", help=told)
    add("--criterion", default="activation_magnitude", choices=bench.CRITERIA, help="to prune by")
    share, count = command_line.share, command_line.count
    values = [0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95]
    add("--sparsities", nargs="+", type=share, default=values, help="to compare, rising")
    add("--sparsity", type=share, default=0.9, help="of the weights, at the end")
    add("--unit-sparsity", type=share, default=0.5, help="of the units of each layer")
    add("--thresholds", type=count, default=12, help="how many to try")
    add("--epochs", type=count, default=5, help="of training, unless --network is a file")
    add("--fine-tune", type=count, default=1, help="epochs after each pruning")
    add("--learning-rate", type=command_line.positive, default=1e-3, help="of Adam")
    add("--batch-size", type=count, default=128, help="samples in a training step")
    add("--rounds", type=count, default=40, help="timed calls of each network")
    add("--seed", type=int, default=0, help="of weights, order and random pruning")
    return parser


if __name__ == "__main__":
    sys.exit(main())
