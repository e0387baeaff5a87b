"""Is pruning by activation the same as a penalty on the singular values?

Networks trained with NuclearNorm on each hidden kernel, of several strengths, beside dense and
pruned ones. Compared are the spectra at the end, each divided by its largest value: does the
penalty bring a network nearer to the activation-pruned one than an ordinary dense network is, and
than two activation-pruned networks of different seeds are? And what accuracy has it?

    python nuclear_norm_equivalence.py --jobs 2

Each training step with the penalty takes an SVD per layer; the JAX backend is fastest at it on a
CPU (KERAS_BACKEND=jax).

Source: Ganguli & Chong, Activation-Based Pruning of Neural Networks, Algorithms 17(1):48, 2024.
"""

import functools
import sys

import nuclear_norm_equivalence_report as report

import activation_pruning as ap
from lab import arms, command_line, spectra, study

WEIGHTING = {"nuclear": "none", "nuclear_index": "index"}
ARMS = ("dense", "activation", "activation_magnitude", "magnitude", "random", *WEIGHTING)
QUICK = (
    "--seeds 2 --hidden 40 20 --epochs 12 --start 0.3 --stop 0.6 --sparsities 0.8 --events 2"
    " --strengths 1e-3"
)


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Nuclear-norm regularisation against pruning by activation."
    parser = command_line.parser(report.NAME, about, ARMS)
    add, positive = parser.add_argument, command_line.positive
    told = "of the penalty, the nuclear norms of the hidden kernels"
    add("--strengths", nargs="+", type=positive, default=[3e-4, 1e-3, 3e-3], help=told)
    told = "of the penalty that weighs each singular value by its index"
    add("--index-strengths", nargs="+", type=positive, default=[1e-5], help=told)
    grid = functools.partial(arms.settings_grid, variants=_variants)
    return study.run(parser, arguments, grid, work, report.publish)


def work(settings: dict) -> tuple[dict, dict]:
    """Train one network and look at its spectra at the end; runs in a worker process."""
    regularizer = None
    if settings["arm"] in WEIGHTING:
        weighting = WEIGHTING[settings["arm"]]
        regularizer = ap.regularizers.NuclearNorm(settings["strength"], weighting)
    trained = arms.train(settings, regularizer=regularizer)
    norms, arrays = spectra.measured(trained.model)
    return trained.result | {"norms": norms}, arrays


def _variants(arm, options):
    if arm not in WEIGHTING:
        return arms.variants(arm, options)
    strengths = options.strengths if arm == "nuclear" else options.index_strengths
    return [{"sparsity": 0.0, "events": 0, "strength": strength} for strength in strengths]


if __name__ == "__main__":
    sys.exit(main())
