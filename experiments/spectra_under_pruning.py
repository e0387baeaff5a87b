"""What does a pruning event do to the singular values of the layers?

The networks of activation_vs_magnitude, with the singular values of every hidden kernel right
before and after each pruning event. Asked: how far do the ranks fall, and are small and large
singular values reduced alike? A penalty on the sum of the singular values takes the same amount
from each (its proximal step is soft thresholding), which Ganguli & Chong (2024) say pruning does.

    python spectra_under_pruning.py --jobs 2

Source: Ganguli & Chong, Activation-Based Pruning of Neural Networks, Algorithms 17(1):48, 2024.
"""

import sys

import spectra_under_pruning_report as report

import activation_pruning as ap
from lab import arms, command_line, spectra, study

ARMS = ("dense", "activation", "activation_magnitude", "magnitude", "random")
QUICK = "--seeds 2 --hidden 40 20 --epochs 12 --start 0.3 --stop 0.6 --sparsities 0.8 --events 2"


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Singular values around every pruning event."
    parser = command_line.parser(report.NAME, about, ARMS)
    return study.run(parser, arguments, arms.settings_grid, work, report.publish)


def work(settings: dict) -> tuple[dict, dict]:
    """Train and prune one network, looking at its spectra; runs in a worker process."""
    logger = ap.SpectrumLogger(epochs=()) if settings["sparsity"] else None
    trained = arms.train(settings, [logger] if logger else [])
    norms, arrays = spectra.measured(trained.model, logger)
    return trained.result | {"norms": norms}, arrays


if __name__ == "__main__":
    sys.exit(main())
