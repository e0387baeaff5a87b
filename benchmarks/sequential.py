"""What pruning layer by layer costs: one walk through the model against a run for every layer.

    python benchmarks/sequential.py                  # a small transformer
    python benchmarks/sequential.py --large          # and one of the size of GPT-2 small, minutes

Prints a table: what is compared, median of the pairs, smallest and largest, limit. Weights and
hidden states are random: what is measured does not depend on them. Peak memory is what the process
takes beyond what it took with the data before the model was made, in units of what cannot be done
without: the model, the largest Hessian (float64) and the states of one block for all of the data.
For that row TensorFlow runs without oneDNN, which keeps 200 MB for itself, and freed memory goes
back at once.
"""

import argparse
import os
import statistics
import subprocess
import sys
import unittest.mock

import analysis

QUIET = {"TF_ENABLE_ONEDNN_OPTS": "0"}
QUIET |= {f"MALLOC_{name}_THRESHOLD_": "1000000" for name in ("MMAP", "TRIM")}
# blocks, width, sequences, tokens of each
SMALL, LARGE = (4, 128, 32, 64), (12, 768, 64, 256)


def transformer(blocks, width, tokens):
    """Blocks of attention and a layer four times as wide, normalised before."""
    import keras

    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((tokens, width))
    for _ in range(blocks):
        h = keras.layers.LayerNormalization()(x)
        attention = keras.layers.MultiHeadAttention(max(width // 64, 1), min(64, width))
        x = keras.layers.Add()([x, attention(h, h, use_causal_mask=True)])
        h = keras.layers.Dense(4 * width, "gelu")(keras.layers.LayerNormalization()(x))
        x = keras.layers.Add()([x, keras.layers.Dense(width)(h)])
    return keras.Model(inputs, keras.layers.Dense(8)(keras.layers.GlobalAveragePooling1D()(x)))


def states(sequences, tokens, width, seed=0):
    """Random hidden states."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return generator.standard_normal((sequences, tokens, width), dtype="float32")


def prune(model, x, criterion):
    """Half of the weights of every layer, each layer with what its inputs have become."""
    import activation_pruning as ap

    ap.prune(model, 0.5, criterion, "uniform", data=x, sequential=True, verbose=0)


def against_runs(criterion):
    """A measurement of a run from the start for every layer / one walk."""

    def measure(pairs):
        from activation_pruning.evidence import walking

        blocks, width, sequences, tokens = SMALL
        model, x = transformer(blocks, width, tokens), states(sequences, tokens, width)
        start = model.get_weights()

        def walk():
            model.set_weights(start)
            prune(model, x, criterion)

        def runs():
            with unittest.mock.patch.object(walking, "walk", return_value=None):
                walk()

        return analysis.paired(runs, walk, pairs)

    return measure


def memory(size):
    """A measurement of peak memory / (model + largest Hessian + states of a block)."""

    def measure(_):
        _, width, sequences, tokens = size
        arguments = ["--peak-of", *map(str, size)]
        done = subprocess.run(
            [sys.executable, __file__, *arguments],
            capture_output=True, text=True, check=True, env={**os.environ, **QUIET},
        )  # fmt: skip
        peak, model = map(float, done.stdout.split()[-2:])
        hessian = 8 * (4 * width) ** 2
        # What goes around a block, and four times its width within it.
        kept = 4 * 5 * sequences * tokens * width
        print(f"peak {peak:.3g}, model {model:.3g}, Hessian {hessian:.3g}, states {kept:.3g} bytes",
              file=sys.stderr)  # fmt: skip
        return [peak / (model + hessian + kept)]

    return measure


def peak_of(blocks, width, sequences, tokens):
    """Print the bytes that pruning takes at its peak, the model among them, and those of that."""
    import resource

    prune(transformer(1, 16, 32), states(2, 32, 16), "sparsegpt")  # what is loaded on the way
    x = states(sequences, tokens, width)
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    model = transformer(blocks, width, tokens)
    prune(model, x, "sparsegpt")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(peak, 4 * model.count_params())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--peak-of", type=int, nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.peak_of:
        peak_of(*options.peak_of)
        return
    print("| compared | median | min | max | limit |\n|---|---|---|---|---|")
    text = "4 blocks of width 128, 32 sequences of 64 tokens: a run for every layer / one walk"
    rows = [(f"{name}, {text}", against_runs(key), "-") for name, key in (
        ("Wanda", "wanda"), ("SparseGPT", "sparsegpt"),
    )]  # fmt: skip
    if options.large:
        text = "SparseGPT, 12 blocks of width 768, 64 sequences of 256 tokens: peak memory / needed"
        rows.append((text, memory(LARGE), "1.3"))
    for text, measure, limit in rows:
        ratios = measure(options.pairs)
        numbers = (statistics.median(ratios), min(ratios), max(ratios))
        shown = " | ".join(f"{number:.2f}" for number in numbers)
        print(f"| {text} | {shown} | {limit} |", flush=True)


if __name__ == "__main__":
    main()
