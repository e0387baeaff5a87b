"""What is a pruned convolutional network worth once its units are really gone?

LeNet-5 and a small residual network are trained on images while whole units (filters) are pruned,
the same share of each layer, by how they fire or by simpler criteria. Then `compact` takes the
units out, the small network is trained a little more, and is exported to LiteRT and ONNX. Each
stage is measured: accuracy, parameters, multiply-adds, bytes of the file, time of a batch beside
that of the dense network, and how far its outputs are from those of the stage before.

    python compact_cnn.py --dataset mnist --jobs 2

Sources: LeCun et al., Proc. IEEE 86(11), 1998; He et al., CVPR 2016; Li et al., ICLR 2017;
Ganguli & Chong, Algorithms 17(1):48, 2024.
"""

import os
import sys
import time
from pathlib import Path

import compact_cnn_report as report
import keras
import numpy as np

import activation_pruning as ap
from lab import command_line, dense, images, network, runner, storage, study

DENSE = "dense"
ARMS = (DENSE, "activation", "mean_activation", "unit_norm", "random")
NETWORKS = ("lenet_5", "resnet_8")
SETTINGS = ("dataset", "samples", "epochs", "fine_tune", "learning_rate", "batch_size", "round_to")
EXPORTS = {"litert": ".tflite", "onnx": ".onnx"}
LATENCY_BATCH = 256
QUICK = (
    "--seeds 1 --samples 600 --epochs 5 --fine-tune 1 --rounds 5 --arms dense activation unit_norm"
)


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Prune units of convolutional networks, take them out, export and measure."
    parser = command_line.shared_parser(report.NAME, about, ARMS)
    add = parser.add_argument
    add("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="which")
    add("--sparsity", type=command_line.share, default=0.5, help="share of the units of each layer")
    add("--round-to", type=command_line.count, default=4, help="layers keep multiples of so many")
    add("--samples", type=command_line.count, help="training images used (default: all)")
    add("--epochs", type=command_line.count, default=8, help="pruned in all but the last two")
    add("--fine-tune", type=command_line.count, default=2, help="more, at a tenth of the rate")
    add("--learning-rate", type=command_line.positive, default=1e-3, help="of Adam")
    add("--batch-size", type=command_line.count, default=64, help="samples in a training step")
    add("--rounds", type=command_line.count, default=40, help="timed calls of each network")
    return study.run(parser, arguments, grid, work, publish, describe)


def grid(options, data: str) -> list[dict]:
    """One settings dict per seed, network and arm."""
    options.arms = list(dict.fromkeys(options.arms))
    options.networks = list(dict.fromkeys(options.networks))
    if options.epochs < 4:
        raise ValueError(f"--epochs {options.epochs}: pruning while training needs 4 at least")
    if options.rounds < 2:
        raise ValueError(f"--rounds {options.rounds}: quartiles need 2 at least")
    images.load(options.dataset, options.samples)  # raises for data that cannot serve
    shared = {name: getattr(options, name) for name in SETTINGS} | study.versions()
    shared |= {"data": data}
    return [
        {"arm": arm, "network": name, "seed": seed, "events": 0}
        | {"sparsity": 0.0 if arm == DENSE else options.sparsity}
        | shared
        for seed in range(options.seeds)
        for name in options.networks
        for arm in options.arms
    ]


def work(settings: dict) -> tuple[dict, dict]:
    """Train, prune, compact, fine-tune, export and measure a network; runs in a worker process."""
    arrays = images.load(settings["dataset"], settings["samples"], settings["seed"])
    model = images.build(settings["network"], arrays, settings)
    begun, stages, layers, pruned_in = time.perf_counter(), [], [], None
    with study.warned() as told:
        pruner = _pruner(settings)
        images.fit(model, arrays, settings, settings["epochs"], [pruner] if pruner else [])
        if pruner:
            stages.append(_keras_stage("pruned", model, arrays, settings))
            layers = ap.removable(model).to_dict("records")
            pruned_in = pruner.table()["epoch"].drop_duplicates().tolist()
            small = ap.compact(model)
            stages.append(_keras_stage("compact", small, arrays, settings, before=model))
            model = small
        model.optimizer.learning_rate = settings["learning_rate"] / 10
        images.fit(model, arrays, settings, settings["fine_tune"])
        last = "fine-tuned" if pruner else DENSE
        stages.append(_keras_stage(last, model, arrays, settings))
        stages += [_exported(stage, model, arrays, settings, stages[-1]) for stage in EXPORTS]
    result = {
        "stages": stages,
        "layers": layers,
        "pruned_in_epochs": pruned_in,
        "test_accuracy": stages[-1]["test_accuracy"],
        "time_s": time.perf_counter() - begun,
        "warnings": told,
    }
    return result, {}


def describe(result: dict) -> str:
    """Say in a few words how a run ended."""
    told = ", ".join(f"{row['stage']} {row['test_accuracy']:.4f}" for row in result["stages"])
    return f"test accuracy {told}; {result['time_s']:.0f} s"


def publish(records: list[dict], out: Path, options: dict) -> None:
    """Measure times, all networks in turn in one process, and write what was found."""
    seed = min(record["settings"]["seed"] for record in records)
    plans = []
    for name in dict.fromkeys(record["settings"]["network"] for record in records):
        names = {
            record["settings"]["arm"]: record["name"]
            for record in records
            if record["settings"]["seed"] == seed and record["settings"]["network"] == name
        }
        if DENSE in names and len(names) > 1:
            plan = {"arm": "times", "network": name, "seed": seed, "sparsity": 0.0, "events": 0}
            plan |= {"runs": names, "dataset": options["dataset"], "rounds": options["rounds"]}
            plans.append(plan | study.versions())
    timed = runner.run_grid(plans, times, out / "times", 1, lambda result: "measured")
    report.publish(records, out, options, [t for t in timed if "result" in t])


def times(settings: dict) -> tuple[dict, dict]:
    """Times of a batch of one network in all its arms and stages; runs in a worker process."""
    arrays = images.load(settings["dataset"])
    models = {}
    for arm, name in settings["runs"].items():
        for stage in (DENSE,) if arm == DENSE else ("pruned", "fine-tuned"):
            path = _file(name, stage, ".keras")
            models[arm, stage] = keras.saving.load_model(path, compile=False)
        for stage, suffix in EXPORTS.items():
            models[arm, stage] = ap.load_exported(_file(name, stage, suffix))
    models = {(DENSE, DENSE): models.pop((DENSE, DENSE)), **models}  # ratios are to the first
    places = {"/".join(key): key for key in models}
    named = {name: models[key] for name, key in places.items()}
    found = ap.analysis.latency_compare(
        named, arrays["x_test"], LATENCY_BATCH, rounds=settings["rounds"]
    )
    ms = found.times.pivot(index="round", columns="name", values="time_ms")
    rows = []
    for row in found.summary.to_dict("records"):
        arm, stage = places[row.pop("name")]
        peer = f"{DENSE}/{stage if stage in EXPORTS else DENSE}"
        ratio = float((ms[f"{arm}/{stage}"] / ms[peer]).median())
        rows.append({"arm": arm, "stage": stage, **row, "ratio_same_runtime": ratio})
    return {"times": rows}, {}


def _pruner(settings):
    if settings["arm"] == DENSE:
        return None
    schedule = ap.schedules.Polynomial(settings["sparsity"], begin=1, end=settings["epochs"] - 2)
    return ap.PruningCallback(
        schedule,
        settings["arm"],
        allocation="uniform",  # every arm ends with the same shapes: accuracies can be compared
        granularity=ap.masks.Unit(round_to=settings["round_to"]),
        seed=settings["seed"],
    )


def _file(name, stage, suffix):
    folder = Path(os.environ[dense.FOLDER])
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{stage}{suffix}"


def _keras_stage(stage, model, arrays, settings, before=None):
    """Save the network without its optimizer, and measure it."""
    path = _file(storage.name_of(settings), stage, ".keras")
    images.copy(model).save(path)
    outputs = model.predict(arrays["x_test"], batch_size=256, verbose=0)
    cost = ap.analysis.cost(model).total
    row = _row(stage, outputs, arrays, path)
    row |= {name: int(cost[name]) for name in ("parameters", "multiply_adds")}
    if before is not None:
        reference = before.predict(arrays["x_test"], batch_size=256, verbose=0)
        row["largest_difference"] = float(np.abs(outputs - reference).max())
    return row


def _exported(stage, model, arrays, settings, same):
    """Write a LiteRT or ONNX file, and measure it on the test images as the network was."""
    path = _file(storage.name_of(settings), stage, EXPORTS[stage])
    ap.export(model, path, data=arrays["x_test"])
    run, x = ap.load_exported(path), arrays["x_test"]
    outputs = np.concatenate([run(x[i : i + 256]) for i in range(0, len(x), 256)])
    reference = model.predict(x, batch_size=256, verbose=0)
    row = _row(stage, outputs, arrays, path)
    row |= {name: same[name] for name in ("parameters", "multiply_adds")}
    return row | {"largest_difference": float(np.abs(outputs - reference).max())}


def _row(stage, outputs, arrays, path):
    found = network.graded(outputs, arrays["y_test"])
    return {
        "stage": stage,
        "test_accuracy": found["accuracy"],
        "test_loss": found["loss"],
        "file_size_bytes": path.stat().st_size,
    }


if __name__ == "__main__":
    sys.exit(main())
