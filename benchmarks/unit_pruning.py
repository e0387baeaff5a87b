"""Prune by unit and take the units out, ResNet50: this package on Keras, Torch-Pruning on PyTorch.

    pip install torch-pruning==1.6.1 torchvision
    python benchmarks/unit_pruning.py

Half of the units of each layer but the last go, by the magnitude of their weights. Timed is
everything from a model of random weights to the smaller one: finding out which units belong
together, scores, choice, and removal. Both work on 64 x 64 images, each in a process of its own
with one thread, in turns; the clock is that of the processor. Prints a table, and how much of our
time Keras takes to build the smaller model: as long as `keras.models.clone_model` takes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

LIMIT = 1.5


def ours():
    """Seconds of one prune and compact, of a plain copy, and the share of parameters left."""
    import keras

    import activation_pruning as ap

    found = []
    for _ in range(2):  # the first one warms Keras and TensorFlow up
        model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
        begun = time.process_time()
        ap.prune(model, 0.5, "magnitude", "uniform", granularity="unit", verbose=0)
        small = ap.compact(model)
        done = time.process_time()
        keras.models.clone_model(small)
        copied = time.process_time() - done
        found = [done - begun, copied, small.count_params() / model.count_params()]
    return found


def theirs():
    """The same of Torch-Pruning, which has no copy to make."""
    import torch
    import torch_pruning
    import torchvision

    torch.set_num_threads(1)
    found = []
    for _ in range(2):
        model, x = torchvision.models.resnet50(), torch.zeros(1, 3, 64, 64)
        before = sum(p.numel() for p in model.parameters())
        begun = time.process_time()
        pruner = torch_pruning.pruner.MagnitudePruner(
            model,
            x,
            importance=torch_pruning.importance.MagnitudeImportance(p=1),
            pruning_ratio=0.5,
            ignored_layers=[model.fc],
        )
        pruner.step()
        done = time.process_time()
        after = sum(p.numel() for p in model.parameters())
        found = [done - begun, 0.0, after / before]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("ours", "theirs"), help="one measurement, as JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(ours() if options.only == "ours" else theirs()))
        return
    threads = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")
    found = {"ours": [], "theirs": []}
    for _ in range(options.rounds):
        for side, times in found.items():
            command = [sys.executable, __file__, "--only", side]
            done = subprocess.run(
                command, env=os.environ | threads, check=True, capture_output=True, text=True
            )
            times.append(json.loads(done.stdout.splitlines()[-1]))
    ratios = [a[0] / b[0] for a, b in zip(found["ours"], found["theirs"], strict=True)]
    copies = [a[1] / a[0] for a in found["ours"]]
    left = [times[0][2] for times in found.values()]
    print("| compared | median | min | max | limit |")
    print("|---|---|---|---|---|")
    for text, values, limit in (
        ("prune by unit and compact, ResNet50 / Torch-Pruning 1.6.1", ratios, LIMIT),
        ("of it, what Keras takes to build such a model", copies, "-"),
    ):
        numbers = [f"{one:.2f}" for one in (statistics.median(values), min(values), max(values))]
        print("| " + " | ".join([text, *numbers, str(limit)]) + " |")
    print(f"\nparameters left: {left[0]:.1%} (ours), {left[1]:.1%} (Torch-Pruning)")


if __name__ == "__main__":
    main()
