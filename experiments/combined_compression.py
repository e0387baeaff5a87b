"""What do pruning, eight bits, distillation and shared weights give together, in real files?

The multilayer perceptron of Ganguli & Chong (2024), LeNet-5 and a small residual network are
trained, pruned (shares of the weights, or of the units, which are then taken out), and written as
.keras, .tflite and .onnx: in float32, or in int8 by ranges measured afterwards (`int8`) or learned
(`qat`). Arms differ in what they do with the same number of epochs:

    all arms            --epochs, dense, at --learning-rate: one network for each seed
    dense, pruned       --fine-tune + --last epochs more, at a tenth of the rate, as in all below
    ..._int8            the same network, quantised when it is written
    ..._distilled       these epochs with the dense network as a teacher
    ..._qat             the --last of them as if quantised (`ap.fake_quantize`)
    clustered           the --last of them with shared weights (`ap.compress`, `ap.SharedWeights`)

Networks are pruned before --fine-tune, in one step, by magnitude; weights over all layers but the
output layer, units the same share of each layer. Adam begins anew before --fine-tune and --last.

Measured: accuracy of the network and of each file, how often their labels agree, bytes (also
gzipped), zeros among the weights that stand in the file, and time of a batch in LiteRT and ONNX
Runtime. Comparisons that were planned: see `combined_compression_planned.py`.

    python combined_compression.py --dataset fashion_mnist --samples 20000 --jobs 2

Sources: Jacob et al., CVPR 2018; Hinton, Vinyals & Dean, 2015; Han, Mao & Dally, ICLR 2016.
"""

import sys
import time
from typing import NamedTuple

import combined_compression_files as files
import combined_compression_report as report
import keras

import activation_pruning as ap
from lab import command_line, compacting, dense, images, study

FLOAT, AS_INTEGERS, SHARED = "float", "as integers", "shared"  # how the last epochs train
HIDDEN = (300, 200, 100, 50)
OWN = ("network", "fine_tune", "last", "temperature", "bits")  # settings that decide on weights
DECIDE = ("dataset", "data", "samples", "seed", "epochs", "learning_rate", "batch_size", *OWN)
DECIDE += ("backend", "keras", "activation_pruning")
QUICK = (
    "--networks mlp --seeds 1 --samples 600 --epochs 4 --fine-tune 1 --last 1 --rounds 3 "
    "--shares 0.8"
)


class Way(NamedTuple):
    """What an arm does: whether it prunes and has a teacher, how it ends, whether it quantises."""

    pruned: bool = True
    taught: bool = False
    ends: str = FLOAT
    integers: bool = False


ARMS = {
    "dense": Way(pruned=False),
    "int8": Way(pruned=False, integers=True),
    "pruned": Way(),
    "pruned_int8": Way(integers=True),
    "pruned_qat": Way(ends=AS_INTEGERS, integers=True),
    "pruned_distilled": Way(taught=True),
    "pruned_distilled_qat": Way(taught=True, ends=AS_INTEGERS, integers=True),
    "clustered": Way(ends=SHARED),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Pruning, eight bits, distillation and shared weights together, measured in files."
    parser = command_line.shared_parser(report.NAME, about, tuple(ARMS))
    add, count = parser.add_argument, command_line.count
    add("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="which")
    share = {"nargs": "*", "type": command_line.share}
    add("--shares", **share, default=[0.8, 0.95], help="of the weights that are pruned")
    add("--units", **share, default=[0.5], help="shares of the units that are taken out")
    add("--last", type=count, default=4, help="epochs after these: as if quantised, or shared")
    add("--temperature", type=command_line.positive, default=3.0, help="of the distillation")
    add("--bits", type=count, default=5, help="of a shared weight")
    compacting.add_options(parser, epochs=10, fine_tune=4, rate=1e-3, batch_size=64)
    return study.run(parser, arguments, grid, work, report.publish, describe, timings, images.load)


def grid(options, data: str) -> list[dict]:
    """One settings dict per seed, network and arm; a trial goes through all that is pruned to."""
    images.load(options.dataset, options.samples)  # raises for data that cannot serve
    shares = [["weight", share] for share in dict.fromkeys(options.shares)]
    shares += [["unit", share] for share in dict.fromkeys(options.units)]
    if not shares:
        raise ValueError("--shares and --units are empty: nothing would be pruned")
    more = {name: getattr(options, name) for name in ("last", "temperature", "bits")}
    found = [
        one | {"network": name} | ({} if ARMS[one["arm"]].pruned else {"shares": []})
        for name in dict.fromkeys(options.networks)
        for one in compacting.grid(options, data, more, shares)
    ]
    return sorted(found, key=lambda one: one["seed"])


def timings(options, records: list[dict]) -> list[dict]:
    """The settings of the trials that measure time: per seed and network, one for each runtime."""
    return [
        one | {"format": kind}
        for kind in files.RUNTIMES
        for one in compacting.timings(options, [_only(record, kind) for record in records])
    ]


def _only(record, kind):
    """The record with the files of that kind alone."""
    if "result" not in record:
        return record
    points = [point for point in record["result"]["points"] if point["format"] == kind]
    return record | {"result": {"points": points}}


def work(settings: dict) -> tuple[dict, dict]:
    """One arm, or what comes last, times; runs in a worker process."""
    if settings["arm"] == compacting.TIMES:
        return compacting.timed(settings, images.load(settings["dataset"])["x_test"]), {}
    arrays = images.load(settings["dataset"], settings["samples"], settings["seed"])
    shape, classes = arrays["x_train"].shape[1:], int(arrays["y_train"].max()) + 1
    build = NETWORKS[settings["network"]]
    begun, points = time.perf_counter(), []
    whole = compacting.trained(lambda: build(shape, classes), ("network",), settings, arrays)
    with study.warned() as told:
        for share in settings["shares"] or [None]:
            made = made_of(whole, share, arrays, settings)
            points += files.points(made, share, arrays, settings)
    return {"points": points, "warnings": told, "time_s": time.perf_counter() - begun}, {}


def describe(result: dict) -> str:
    """Say in a few words how a run ended."""
    if "times" in result:
        return compacting.describe(result)
    told = [f"{p['test_accuracy']:.4f}" for p in result["points"] if p["format"] == "litert"]
    return f"test accuracy of the LiteRT files {', '.join(told)}; {result['time_s']:.0f} s"


def made_of(whole: keras.Model, share: list | None, arrays: dict, settings: dict) -> files.Made:
    """What an arm makes of the dense network: pruned to a share (None: not), trained, rounded.

    Float networks are trained once for all arms that share them, and are read by the others.
    """
    way = ARMS[settings["arm"]]
    model = _pruned(images.copy(whole), share, settings)
    lesson = {"teacher": images.copy(whole) if way.taught else None, "share": share}
    named = settings | {"ends": "begun", "taught": way.taught, "share": share}
    decide = (*DECIDE, "ends", "taught", "share")

    def first():
        train(model, arrays, settings, settings["fine_tune"], **lesson)

    dense.kept(model, named, decide, first)
    last = settings["last"]
    if way.ends == SHARED:
        shared = ap.compress(model, settings["bits"])
        model = shared.model()
        train(model, arrays, settings, last, callbacks=[ap.SharedWeights(shared)])
        return files.Made(model, shared=shared)
    if way.ends == AS_INTEGERS:
        quantised = ap.fake_quantize(model, data=files.typical(arrays))
        train(model, arrays, settings, last, **lesson)
        return files.Made(model, integers=True, quantised=quantised)
    named["ends"] = FLOAT
    dense.kept(model, named, decide, lambda: train(model, arrays, settings, last, **lesson))
    return files.Made(model, integers=way.integers)


def train(model, arrays: dict, settings: dict, epochs: int, teacher=None, share=None, callbacks=()):
    """Train some more at a tenth of the learning rate; Adam begins anew, zeros stay.

    teacher: the network to learn from, None for none. share: None where nothing is pruned.
    callbacks: in place of `KeepPruned`.
    """
    images.compiled(model, settings["learning_rate"] / 10)
    learner = model
    if teacher is not None:
        learner = ap.distiller(model, teacher, temperature=settings["temperature"])
    keep = [ap.KeepPruned()] if share else []
    images.fit(learner, arrays, settings, epochs, callbacks or keep)


def _pruned(model, share, settings):
    """The network pruned to a share, by magnitude; without the units that were pruned."""
    if share is None:
        return model
    granularity, target = share
    units = granularity == "unit"
    ap.prune(
        model, target, "magnitude", granularity=granularity, seed=settings["seed"], verbose=0,
        allocation="uniform" if units else "global",  # every seed keeps as many units
    )  # fmt: skip
    return ap.compact(model) if units else model


def _mlp(shape, classes):
    """The multilayer perceptron of Ganguli & Chong (2024)."""
    layers = keras.layers
    hidden = [layers.Dense(n, "relu", name=f"dense_{i}") for i, n in enumerate(HIDDEN, 1)]
    inner = [layers.Flatten(name="flatten"), *hidden]
    output = layers.Dense(classes, "softmax", name="output")
    return keras.Sequential([keras.Input(shape), *inner, output], name="mlp")


NETWORKS = {"mlp": _mlp, "lenet_5": images.lenet_5, "resnet_8": images.resnet_8}


if __name__ == "__main__":
    sys.exit(main())
