"""Does it matter whether a pruned network learns from its dense teacher?

A dense network is trained, pruned in one step, and trained on for as many epochs again: from the
labels alone; by its dense teacher's softened outputs as well; by its hidden layers besides. The
dense network itself trains on as long. Nothing else differs: the same weights are pruned, the order
of the samples is the same, and so are the epochs in all.

    python distillation.py --dataset mnist --jobs 2

Sources: Hinton, Vinyals & Dean, Distilling the Knowledge in a Neural Network, 2015; Romero et al.,
FitNets, ICLR 2015.
"""

import itertools
import sys
import time
from pathlib import Path

import pandas as pd
from keras import models

import activation_pruning as ap
from lab import arms_report, command_line, network, plain, publication, study

NAME = "distillation"
DENSE, PLAIN, LOGITS, FEATURES = "dense", "fine_tuned", "distilled", "distilled_features"
ARMS = (DENSE, PLAIN, LOGITS, FEATURES)
QUICK = "--seeds 2 --hidden 40 20 --epochs 12 --more-epochs 12 --sparsities 0.9"


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Pruned networks that learn on from labels alone, or from a dense teacher, too."
    parser = command_line.shared_parser(NAME, about, ARMS)
    parser.set_defaults(seeds=5)
    plain.add_options(parser, hidden=[300, 100], epochs=20, digits=40)
    add = parser.add_argument
    add("--sparsities", nargs="+", type=command_line.share, default=[0.8, 0.9, 0.95, 0.98],
        help="of the hidden layers")  # fmt: skip
    add("--more-epochs", type=command_line.count, default=20, help="after pruning")
    add("--criterion", choices=sorted(ap.criteria.CRITERIA), default="magnitude", metavar="NAME",
        help="which weights go")  # fmt: skip
    add("--temperature", type=command_line.positive, default=3.0, help="softens the outputs")
    add("--label-weight", type=command_line.share, default=0.5, help="of the student's own loss")
    add("--feature-weight", type=command_line.positive, default=1.0, help="of the hidden layers")
    return study.run(parser, arguments, grid, work, publish)


def grid(options, data: str) -> list[dict]:
    """One settings dict per seed, sparsity and arm; the dense network trains on once per seed."""
    shared = plain.shared(options, data)
    names = ("more_epochs", "criterion", "temperature", "label_weight", "feature_weight")
    shared |= {name: getattr(options, name) for name in names}
    return [
        {"arm": arm, "seed": seed, "sparsity": sparsity, "events": 1} | shared
        for seed in range(options.seeds)
        for arm in options.arms
        for sparsity in ([0.0] if arm == DENSE else options.sparsities)
    ]


def work(settings: dict) -> tuple[dict, dict]:
    """Train, prune and train on one network; runs in a worker process."""
    data = plain.split(settings)
    model, measure = plain.trained(settings, data), plain.Measure(data)
    teacher = models.clone_model(model)
    teacher.set_weights(model.get_weights())
    found = {"teacher_accuracy": _test(measure, teacher)}
    begun = time.perf_counter()
    with study.warned() as told:
        if settings["arm"] != DENSE:
            calibration = (data.x_train[:500], data.y_train[:500])
            ap.prune(
                model, settings["sparsity"], settings["criterion"], data=calibration, verbose=0,
                seed=settings["seed"],
            )  # fmt: skip
        found["pruned_accuracy"] = _test(measure, model)
        learner = _learner(settings, model, teacher)
        calls, keep = itertools.count(1), [ap.KeepPruned()]
        plain.fit(settings, data, calls, learner, settings["more_epochs"], keep)
    found |= {"time_s": time.perf_counter() - begun, "validation_accuracy": measure(model)}
    found |= measure.others() | {"sparsity": network.sparsity(model)}
    found["epochs"] = settings["epochs"] + settings["more_epochs"]
    return found | {"warnings": told}, {}


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    runs = plain.runs(records, ("arm", "seed", "sparsity"))
    dense = runs["arm"] == DENSE
    pruned = sorted(set(runs.loc[~dense, "target_sparsity"]))
    # The dense network stands beside those of each sparsity.
    beside = [runs[dense].assign(target_sparsity=target) for target in pruned]
    runs = pd.concat([runs[~dense], *beside]) if pruned else runs
    arms = [arm for arm in ARMS if arm in set(runs["arm"])]
    return arms_report.compared(
        runs, NAME, "Learning from the dense teacher",
        baseline=PLAIN if PLAIN in arms else arms[0],
        metrics=("teacher_accuracy", "pruned_accuracy", "train_accuracy", "sparsity", "epochs",
                 "time_s"),
        about=f"Criterion: {options['criterion']}; temperature {options['temperature']:g}, weight "
        f"of the labels {options['label_weight']:g}, of features {options['feature_weight']:g}.",
    )  # fmt: skip


def _learner(settings, model, teacher):
    """What `fit` is called of: the network, or a Distiller around it."""
    if settings["arm"] in (DENSE, PLAIN):
        return model
    hidden = {layer.name: layer.name for layer in model.layers[:-1]}
    return ap.distiller(
        model,
        teacher,
        temperature=settings["temperature"],
        student_loss_weight=settings["label_weight"],
        features=hidden if settings["arm"] == FEATURES else None,
        feature_weight=settings["feature_weight"],
    )


def _test(measure, model):
    measure(model)
    return measure.test


if __name__ == "__main__":
    sys.exit(main())
