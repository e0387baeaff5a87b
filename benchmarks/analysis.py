"""What looking inside costs: spectra, SpectrumLogger in `fit`, sensitivity; each against a peer.

    python benchmarks/analysis.py

Prints a table: what is compared, median ratio of the pairs, smallest and largest, limit.
"""

import argparse
import os
import statistics
import time

import fit_overhead

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def seconds(function):
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def paired(ours, peer, pairs):
    """Ratios ours / peer, measured in turn, after one call of each."""
    ours(), peer()
    return [seconds(ours) / seconds(peer) for _ in range(pairs)]


def spectra(pairs):
    """`spectra` of ResNet50 against a loop of NumPy's SVD over the same matrices."""
    import keras
    import numpy as np

    import activation_pruning as ap

    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None)
    kernels = [np.asarray(w) for w in model.trainable_weights if len(w.shape) > 1]
    matrices = [kernel.reshape(-1, kernel.shape[-1]) for kernel in kernels]

    def loop():
        for matrix in matrices:
            np.linalg.svd(matrix, compute_uv=False)

    return paired(lambda: ap.analysis.spectra(model), loop, pairs)


def sensitivity(pairs):
    """`sensitivity` of the paper's MLP against as many plain `evaluate` calls."""
    import keras
    import numpy as np

    import activation_pruning as ap

    keras.utils.set_random_seed(0)
    model = fit_overhead.build(keras, fit_overhead.MLP)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    random = np.random.default_rng(0)
    x, y = random.random((10_000, 784), dtype="float32"), random.integers(0, 10, 10_000)

    def evaluate():
        for _ in range(4 * len(SPARSITIES)):
            model.evaluate(x, y, batch_size=256, verbose=0)

    def ours():
        ap.analysis.sensitivity(model, x, y, sparsities=SPARSITIES, verbose=0)

    return paired(ours, evaluate, pairs)


def logging(pairs):
    """`fit` with SpectrumLogger once per epoch against without, epochs as long as MNIST's."""
    samples, batch = 54_000, 32
    arguments = (fit_overhead.MLP, batch, samples // batch, pairs)
    times = fit_overhead.turns(["spectra", "plain"], *arguments)
    return [a / b for a, b in zip(times["spectra"], times["plain"], strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print("| compared | median | min | max | limit |\n|---|---|---|---|---|")
    for text, measure, limit in (
        ("fit with SpectrumLogger every epoch / without (MLP, batch 32)", logging, "1.10"),
        ("spectra of ResNet50 / numpy.linalg.svd in a loop", spectra, "1.0"),
        ("sensitivity (MLP, 40 points) / 40 evaluate calls", sensitivity, "1.3"),
    ):
        ratios = measure(options.pairs)
        numbers = (statistics.median(ratios), min(ratios), max(ratios))
        shown = " | ".join(f"{number:.3f}" for number in numbers)
        print(f"| {text} | {shown} | {limit} |", flush=True)


if __name__ == "__main__":
    main()
