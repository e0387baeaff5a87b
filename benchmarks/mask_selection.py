"""Time and memory of selecting one global mask, against np.partition of the same array.

    python benchmarks/mask_selection.py [--weights 50000000] [--pairs 7] [--sparsity 0.8]

Both are timed in one process, interleaved. Peak memory is the array plus what the selection adds:
the rise of the resident peak (ru_maxrss) in a fresh process that holds the array and calls
`masks.select` once. The new masks are counted, the masks from before (a quarter of the array) not.
"""

import argparse
import resource
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np

from activation_pruning import masks

SITES = 5
SLOWEST, LARGEST = 3.0, 2.0  # times np.partition, times the array


def build(weights, density=1.0):
    """Return sites, magnitude scores by site name and the same scores in one flat array."""
    generator = np.random.default_rng(0)
    flat = np.abs(generator.standard_normal(weights, dtype=np.float32))
    sites, scores = [], {}
    for index, part in enumerate(np.array_split(flat, SITES)):
        own = part.reshape(1, -1)
        alive = np.ones(own.shape, bool)
        if density < 1:
            alive = generator.random(own.shape, dtype=np.float32) < density
        # The scores stand in for the kernel: selection only looks whether it is finite.
        sites.append(SimpleNamespace(name=f"site_{index}", kernel=own, mask=alive))
        scores[f"site_{index}"] = own
    return sites, scores, flat


def select(sites, scores, sparsity):
    """Return the new masks."""
    return masks.select(sites, scores, sparsity, "weight", "global")


def seconds(function, *arguments):
    """Return the wall time of one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def time_pairs(weights, sparsity, density, pairs):
    """Return an array (pairs, 2): seconds of the selection and of np.partition."""
    sites, scores, flat = build(weights, density)
    kth = int(sparsity * weights)
    times = []
    for pair in range(pairs + 1):
        runs = [(0, select, sites, scores, sparsity), (1, np.partition, flat, kth)]
        times.append([0.0, 0.0])
        for column, *call in runs if pair % 2 else runs[::-1]:
            times[-1][column] = seconds(*call)
    return np.array(times[1:])  # the first pair only warms up


def peak_multiple(weights, sparsity, density):
    """Return the peak memory of one selection in a fresh process, over the array's bytes."""
    command = [sys.executable, __file__, "--child", "--weights", str(weights)]
    command += ["--sparsity", str(sparsity), "--density", str(density)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def child(weights, sparsity, density):
    """Print the peak memory of one selection, array included, over the array's bytes."""
    sites, scores, flat = build(weights, density)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, else kibibytes
    # Fill up to the peak of building, so that the rise is all the selection's.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    filler = np.ones(max(peak - resident(), 0), np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    select(sites, scores, sparsity)
    rise = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before
    del filler
    print((flat.nbytes + rise) / flat.nbytes)


def resident():
    """Return the bytes resident now (Linux); elsewhere infinity, which leaves the filler empty."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except FileNotFoundError:
        return float("inf")


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=int, default=50_000_000)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--sparsity", type=float, default=0.8)
    parser.add_argument("--density", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.weights, given.sparsity, given.density)
        return
    print(
        f"{given.weights:,} float32 weights in {SITES} sites, sparsity {given.sparsity:g}, global"
    )
    print(
        f"median of {given.pairs} interleaved pairs; limits: {SLOWEST:g} times np.partition, "
        f"{LARGEST:g} times the array\n"
    )
    print("| masks before | selection, s | np.partition, s | ratio (min - max) | peak / array |")
    print("|---|---|---|---|---|")
    for label, density in (("nothing pruned", 1.0), ("half pruned", 0.5)):
        times = time_pairs(given.weights, given.sparsity, density, given.pairs)
        ratios = times[:, 0] / times[:, 1]
        middle = np.median(times, axis=0)
        memory = peak_multiple(given.weights, given.sparsity, density)
        print(
            f"| {label} | {middle[0]:.3f} | {middle[1]:.3f} | {np.median(ratios):.2f} "
            f"({ratios.min():.2f} - {ratios.max():.2f}) | {memory:.2f} |"
        )


if __name__ == "__main__":
    main()
