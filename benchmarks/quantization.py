"""What fake quantisation costs in `fit`, and GPTQ that keeps zeros against Keras's own.

    python benchmarks/quantization.py            # KERAS_BACKEND=jax for that backend
    python benchmarks/quantization.py --only gptq --size 4096

`fit`: a plain network and one that is fake-quantised train epoch by epoch in turn, in processor
time; the ratio is taken within a turn, and the first two turns (tracing) are not counted. GPTQ: one
matrix of random weights and a Hessian of random inputs that go together, which is not timed;
Keras's pass as `model.quantize("gptq")` calls it, on the same matrix, both with 4 bits and groups
of 128, in turns.
"""

import argparse
import statistics
import time

import keras
import numpy as np
from fit_overhead import LENET, MLP, build

import activation_pruning as ap

WARM_UP, SAMPLES = 2, 6400
LIMITS = {"tensorflow": 1.5, "jax": 1.2}


def epochs(network, batch_size, turns):
    """Ratios of the epochs of a fake-quantised network to those of a plain one."""
    generator = np.random.default_rng(0)
    shape = (784,) if network == MLP else (28, 28, 1)
    x = generator.random((SAMPLES, *shape), dtype="float32")
    y = generator.integers(0, 10, SAMPLES)
    models = [build(keras, network) for _ in range(2)]
    for model in models:
        model.compile("sgd", "sparse_categorical_crossentropy")
    ap.fake_quantize(models[1], data=x[:256])
    for turn in range(WARM_UP + turns):
        seconds = []
        for model in models:
            begun = time.process_time()
            model.fit(x, y, batch_size=batch_size, epochs=1, verbose=0)
            seconds.append(time.process_time() - begun)
        if turn >= WARM_UP:
            yield seconds[1] / seconds[0]


def passes(size, turns):
    """Ratios of our pass over a matrix of size x size to Keras's."""
    from keras.src.quantizers.gptq import gptq_quantize_matrix
    from keras.src.quantizers.quantizers import GPTQQuantizer

    from activation_pruning.surgeons import gptq, sparsegpt
    from activation_pruning.surgeons.problems import Problem

    generator = np.random.default_rng(0)
    x = generator.normal(size=(2 * size, size)).astype("float32")
    x[:, 1:] += 0.5 * x[:, :-1]
    hessian = (x.T @ x / len(x)).astype("float64")
    hessian[np.diag_indices(size)] += 0.01 * np.trace(hessian) / size
    weights = generator.normal(size=(size, size)).astype("float32")
    weights[generator.random(weights.shape) < 0.5] = 0
    alive = weights != 0
    config = keras.quantizers.GPTQConfig(None, None, group_size=128)
    for _ in range(turns):
        begun = time.process_time()
        factor = sparsegpt.factor(Problem("a", hessian.copy(), weights, alive), True)
        grid = gptq.Grid(weights.shape, 4, 128, symmetric=False)
        sparsegpt.solve(weights, alive, factor.astype("float32"), alive, rounded=grid)
        ours = time.process_time() - begun
        begun = time.process_time()
        inverse = keras.ops.linalg.inv(keras.ops.convert_to_tensor(hessian.astype("float32")))
        found = gptq_quantize_matrix(
            keras.ops.convert_to_tensor(weights), inverse, group_size=128,
            compute_scale_zero=GPTQQuantizer(config).find_params,
        )  # fmt: skip
        keras.ops.convert_to_numpy(found[0])
        theirs = time.process_time() - begun
        print(f"  ours {ours:.1f} s, Keras {theirs:.1f} s", flush=True)
        yield ours / theirs


def row(what, ratios, limit):
    """Print one line of the table."""
    ratios = sorted(ratios)
    middle = statistics.median(ratios)
    print(f"| {what} | {middle:.3f} | {ratios[0]:.3f} | {ratios[-1]:.3f} | {limit} |", flush=True)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=["fit", "gptq"])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--size", type=int, default=4096, help="of the matrix for GPTQ")
    options = parser.parse_args()
    backend = keras.backend.backend()
    print(f"Keras {keras.__version__} on {backend}\n\n| compared | median | min | max | limit |")
    print("|---|---|---|---|---|")
    if options.only != "gptq":
        for network in (MLP, LENET):
            found = epochs(network, 128, options.turns)
            what = f"fake quantisation / plain fit, {network}, batches of 128, {backend}"
            row(what, found, LIMITS.get(backend, "-"))
    if options.only != "fit":
        size, turns = options.size, max(options.turns // 4, 1)
        row(f"GPTQ that keeps zeros, {size} x {size} / Keras's GPTQ", passes(size, turns), 1.1)


if __name__ == "__main__":
    main()
