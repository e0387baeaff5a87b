"""Does it pay to prune by how often units fire? The main comparison of Ganguli & Chong (2024).

A multilayer perceptron (784-300-200-100-50-10 on MNIST) is trained with SGD and pruned while it
trains, by AccuracyTriggered: at an epoch's end, whenever the training accuracy has reached the next
of `--events` levels between `--start` and `--stop`. The arms differ only in the criterion; "dense"
is not pruned, and "tfmot" is prune_low_magnitude with PolynomialDecay as an outside peer
("tfmot_trained": in two epochs on a trained network, as the published code has it). For each seed,
all arms share the data split and the starting weights.

    python activation_vs_magnitude.py --jobs 2
    python activation_vs_magnitude.py --jobs 2 --protocol paper --dataset fashion_mnist

Source: Ganguli & Chong, Activation-Based Pruning of Neural Networks, Algorithms 17(1):48, 2024.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import activation_vs_magnitude_newest as newest
import activation_vs_magnitude_report as report

from lab import arms, command_line, study

TFMOT = ("tfmot", "tfmot_trained")
ARMS = ("dense", *arms.CRITERIA, "tfmot")
# Share of the epochs: in the paper's protocol a dense training ends after about 40 of 500.
END_SHARES = {"short": 0.5, "paper": 0.04}
PRUNING_EPOCHS = 2  # of tfmot on a trained network, as published
QUICK = "--seeds 2 --hidden 40 20 --epochs 12 --start 0.3 --stop 0.6 --sparsities 0.8 --events 2"


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    parser = command_line.parser(
        report.NAME,
        "Prune by activation, by magnitude and at random, and compare.",
        ARMS,
        (*arms.GRADUAL, *arms.OWN, "tfmot_trained"),  # not by default
        sparsities=(0.80, 0.85, 0.90),
        events=(5, 10),
    )
    parser.add_argument(
        "--tfmot-end-share",
        type=command_line.share,
        help="share of --epochs in which tfmot and the gradual arms prune (default: "
        + ", ".join(f"{protocol} {own}" for protocol, own in END_SHARES.items())
        + ")",
    )
    newest.add_options(parser)
    return study.run(parser, arguments, settings_grid, work, report.publish)


def settings_grid(options, data: str) -> list[dict]:
    """One settings dict per run; options.notes tells of an arm that cannot run here."""
    options.notes = _without_tfmot(options)
    if options.tfmot_end_share is None:
        options.tfmot_end_share = END_SHARES[options.protocol]
    return arms.settings_grid(options, data, _variants)


def work(settings: dict) -> tuple[dict, dict]:
    """Train, prune and measure one network; runs in a worker process."""
    if settings["arm"] in TFMOT:
        return _peer(settings), {}
    more = set(newest.OPTIONS) & set(settings)
    trained = arms.train(settings, pruning=newest.pruning if more else arms.pruning)
    return trained.result, arms.hidden_masks(trained.model) if settings["pictures"] else {}


def _variants(arm, options):
    if arm not in TFMOT and arm not in arms.GRADUAL:
        more = newest.chosen(options) if arm != "dense" else {}
        return [variant | more for variant in arms.variants(arm, options)]
    window = {"events": 0, "end_share": options.tfmot_end_share}
    if arm == "tfmot_trained":
        window = {"events": 0, "pruning_epochs": PRUNING_EPOCHS}
    return [{"sparsity": sparsity} | window for sparsity in options.sparsities]


def _peer(settings):
    """Run tfmot in another process: importing it switches a whole process to legacy Keras."""
    script = Path(__file__).with_name("activation_vs_magnitude_tfmot.py")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "settings.json"), Path(folder, "result.json")
        source.write_text(json.dumps(settings))
        done = subprocess.run(
            [sys.executable, str(script), str(source), str(target)],
            env=os.environ | {"TF_USE_LEGACY_KERAS": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"activation_vs_magnitude_tfmot.py failed:\n{done.stderr[-4000:]}")
        return json.loads(target.read_text()) | {"events": [], "activity": []}


def _without_tfmot(options) -> str:
    """Take the arms of tfmot out where they cannot run; say so."""
    missing = [
        name
        for name in ("tf_keras", "tensorflow_model_optimization")
        if importlib.util.find_spec(name) is None
    ]
    if not missing or set(TFMOT).isdisjoint(options.arms):
        return ""
    options.arms = [arm for arm in options.arms if arm not in TFMOT]
    note = (
        f"tfmot was left out: {' and '.join(missing)} not installed "
        f'(pip install "activation-pruning[tfmot]").'
    )
    print(note, flush=True)
    return note


if __name__ == "__main__":
    sys.exit(main())
