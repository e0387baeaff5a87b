"""How much at a time, how often, how long to retrain: does the strategy matter as the criterion?

A network with one hidden layer (784-100-10), or LeNet-300-100, is trained on MNIST and pruned, all
layers: in a single step to 80, 85 or 90 %; iteratively by 25, 50 or 75 % of what remains, down to
500 weights; or by a fixed number of weights (1,000, 5,000, 10,000) at a time, as often as 500 stay.
After each step it retrains for 2 epochs, or until the validation accuracy improves by less than 0.1
point (at most 10 epochs). Seven criteria: random; magnitude with one ranking (class-blind), the
same share of each layer (class-uniform) and scaled by the deviation of each layer
(class-distributed); Optimal Brain Damage; exact layer-wise Optimal Brain Surgeon; activation times
magnitude. Beside them, other ways against overfitting with the same number of epochs: dropout, L1,
L2, early stopping, a nuclear norm penalty.

    python pruning_strategies.py --dataset mnist --jobs 2
    python pruning_strategies.py --dataset mnist --jobs 2 --hidden 300 100   # LeNet-300-100

Sources: See, Luong & Manning, CoNLL 2016 (class-blind, -uniform, -distributed); Han et al., NIPS
2015; LeCun, Denker & Solla, NIPS 1989; Dong, Chen & Pan, NeurIPS 2017.
"""

import sys

import pruning_strategies_regularised as regularised
import pruning_strategies_report as report
import pruning_strategies_trial as trial

from lab import command_line, plain, study

QUICK = (
    "--seeds 2 --hidden 20 --epochs 5 --calibration 200"
    " --strategies single_80 fixed_1000 --arms class_blind random"
)


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Compare pruning strategies, criteria and ways of retraining."
    parser = command_line.shared_parser(report.NAME, about, tuple(trial.CRITERIA))
    add = parser.add_argument
    known = tuple(trial.STRATEGIES)
    add("--strategies", nargs="+", choices=known, default=list(known), metavar="STRATEGY",
        help=f"there are {', '.join(known)}")  # fmt: skip
    known = tuple(trial.RETRAINING)
    add("--retraining", nargs="+", choices=known, default=list(known), help="after each step")
    plain.add_options(parser, hidden=[100], epochs=10, digits=20)
    add("--calibration", type=command_line.count, default=1000, help="images that criteria see")
    add("--without-regularisers", action="store_true", help="leave the other ways out")
    return study.run(parser, arguments, grid, work, report.publish, describe)


def grid(options, data: str) -> list[dict]:
    """One settings dict per trial, seeds outermost: what was stopped has whole comparisons."""
    more = {"calibration": options.calibration, "sparsity": 0.0, "events": 0}
    shared = plain.shared(options, data) | more
    trials = [
        {"arm": f"{arm}-{strategy}-{retraining}", "criterion": arm}
        | {"strategy": strategy, "retraining": retraining}
        for strategy in options.strategies
        for retraining in options.retraining
        for arm in options.arms
    ]
    others = [] if options.without_regularisers else regularised.trials()
    found = [trial | {"seed": seed} for seed in range(options.seeds) for trial in others + trials]
    return [trial | shared for trial in found]


def work(settings: dict) -> tuple[dict, dict]:
    """One trial; runs in a worker process."""
    return (regularised if settings["criterion"] in regularised.ARMS else trial).work(settings)


def describe(result: dict) -> str:
    """Say in a few words how a trial ended."""
    return (trial if "curve" in result else regularised).describe(result)


if __name__ == "__main__":
    sys.exit(main())
