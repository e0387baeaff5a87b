"""What brain surgeons and their statistics cost; each against a peer in the same run.

    python benchmarks/surgeons.py            # wants torch for the row of SparseGPT

Prints a table: what is compared, median ratio of the pairs, smallest and largest, limit. Images are
drawn at random (blurred noise with an empty border); what is measured does not depend on them.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys

import analysis


def images(samples, seed=0):
    """Random images of 28 x 28, flat: smooth blobs, a border of zeros."""
    import numpy as np

    generator = np.random.default_rng(seed)
    small = generator.random((samples, 7, 7), dtype="float32")
    large = np.kron(small, np.ones((4, 4), "float32")) + generator.random(
        (samples, 28, 28), dtype="float32"
    )
    large[:, :2], large[:, -2:], large[:, :, :2], large[:, :, -2:] = 0, 0, 0, 0
    return large.reshape(samples, 784)


def lenet(hidden=(300, 100)):
    """784-300-100-10 with seeded weights."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(units, "relu") for units in hidden]
    return keras.Sequential([keras.Input((784,)), *layers, keras.layers.Dense(10, "softmax")])


def exact_surgery(pairs):
    """Exact L-OBS to 95 % against inverses recalculated from scratch every 2,000 weights."""
    import activation_pruning as ap

    x, model = images(10_000), lenet()
    start = model.get_weights()

    def prune(surgeon):
        model.set_weights(start)
        ap.prune(model, 0.95, surgeon, data=x, exclude=(), verbose=0)

    economical = ap.surgeons.LayerwiseOBS(recalculate_every=2000)
    # Minutes each: no call to warm up, and few pairs.
    return [
        analysis.seconds(lambda: prune("lobs")) / analysis.seconds(lambda: prune(economical))
        for _ in range(max(1, pairs // 3))
    ]


def sparsegpt(pairs, size=4096):
    """One layer of 4096 x 4096 to 50 % against the published algorithm, plainly in PyTorch."""
    if importlib.util.find_spec("torch") is None:
        print("sparsegpt: PyTorch is not installed; left out", file=sys.stderr)
        return []
    import numpy as np
    import torch

    import activation_pruning as ap
    from activation_pruning.evidence.inputs import InputHessian
    from activation_pruning.sites import Site
    from activation_pruning.sites.unfolding import Unfolding

    generator = np.random.default_rng(0)
    x = generator.standard_normal((8192, size), dtype="float32")
    hessian = (x.T @ x / len(x)).astype("float64")
    kernel = generator.standard_normal((size, size), dtype="float32")
    unfolding = Unfolding("inputs x units", kernel.shape, (0, 1), (1, *kernel.shape), False)
    found = {"input_hessian": InputHessian(unfolding, hessian[None], len(x))}
    units = np.arange(size)[None]
    site = Site("layer", "layer", kernel, kernel != 0, units, statistics=found)
    uniform = ap.allocations.get("uniform")
    selection = ap.surgeons.Selection(0.5, ap.masks.granularity("weight"), uniform)
    weight, matrix = torch.tensor(kernel.T.copy()), torch.tensor(hessian, dtype=torch.float32)
    return analysis.paired(
        lambda: ap.surgeons.SparseGPT().operate([site], selection),
        lambda: plain_sparsegpt(weight.clone(), matrix.clone()),
        pairs,
    )


def plain_sparsegpt(w, hessian, sparsity=0.5, block=128, damping=0.01):
    """Algorithm 1 of Frantar & Alistarh (2023) for w of shape (units, inputs), in float32."""
    import torch

    n = len(hessian)
    hessian.diagonal().add_(damping * hessian.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor = torch.linalg.cholesky(inverse, upper=True)
    for start in range(0, n, block):
        end = min(start + block, n)
        part, u = w[:, start:end].clone(), factor[start:end, start:end]
        costs = part**2 / u.diagonal() ** 2
        gone = costs <= costs.flatten().kthvalue(int(costs.numel() * sparsity)).values
        result, errors = torch.zeros_like(part), torch.zeros_like(part)
        for i in range(end - start):
            column = part[:, i]
            kept = torch.where(gone[:, i], torch.zeros_like(column), column)
            error = (column - kept) / u[i, i]
            part[:, i:] -= error[:, None] @ u[i, i:][None]
            result[:, i], errors[:, i] = kept, error
        w[:, start:end] = result
        w[:, end:] -= errors @ factor[start:end, end:]
    return w


def collecting(need):
    """A measurement of what gathering a statistic of 60,000 images takes, against `predict`."""

    def measure(pairs):
        from activation_pruning import sites
        from activation_pruning.evidence import inputs

        x, model = images(60_000), lenet()
        live = sites.find(model, exclude=()).sites
        return analysis.paired(
            lambda: inputs.gather(model, live, x, [need]),
            lambda: model.predict(x, verbose=0),
            pairs,
        )

    return measure


def memory(pairs):
    """Peak memory of gathering from 64,000 samples / from 4,000, beyond what is there before."""
    peaks = {}
    for samples in (4_000, 64_000):
        done = subprocess.run(
            [sys.executable, __file__, "--peak-of", str(samples)],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks[samples] = float(done.stdout.split()[-1])
    return [peaks[64_000] / peaks[4_000]]


def peak_of(samples):
    """Bytes that gathering takes at its peak, from batches that are made as they are asked for."""
    import resource

    from activation_pruning import sites
    from activation_pruning.evidence import inputs

    model = lenet((1000, 1000, 500))
    live = sites.find(model, exclude=()).sites
    batches = (images(500, seed) for seed in range(samples // 500))
    inputs.gather(model, live, [images(500)], ["input_norm"])  # what is loaded on the way
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    inputs.gather(model, live, batches, ["input_hessian"])
    print(max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 1) * 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.peak_of:
        peak_of(options.peak_of)
        return
    print("| compared | median | min | max | limit |\n|---|---|---|---|---|")
    for text, measure, limit in (
        ("peak memory of collecting: 64,000 samples / 4,000", memory, "constant"),
        ("norms for Wanda, 60,000 images / one predict", collecting("input_norm"), "1.5"),
        ("Hessians for L-OBS, 60,000 images / one predict", collecting("input_hessian"), "1.5"),
        ("SparseGPT, 4096 x 4096 / plainly in PyTorch", sparsegpt, "1.0"),
        ("L-OBS exact / recalculated every 2,000 (LeNet-300-100, 95 %)", exact_surgery, "2.0"),
    ):
        ratios = measure(options.pairs)
        if ratios:
            numbers = (statistics.median(ratios), min(ratios), max(ratios))
            shown = " | ".join(f"{number:.3f}" for number in numbers)
            print(f"| {text} | {shown} | {limit} |", flush=True)


if __name__ == "__main__":
    main()
