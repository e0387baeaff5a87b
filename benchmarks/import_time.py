"""How long `import activation_pruning` takes, as a multiple of `import keras, pandas`.

    python benchmarks/import_time.py --rounds 10

Both are needed by anyone who prunes a Keras model and looks at a table; all else should wait until
it is used. The limit is 1.3. Each round runs both commands in fresh interpreters, in turn.
"""

import argparse
import statistics
import subprocess
import sys
import time

PEER, OURS = "import keras, pandas", "import activation_pruning"


def seconds(code):
    """The time that a fresh interpreter takes for `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    """Print the ratio of each round, and their median."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    for code in (PEER, OURS):  # fill the disk's cache
        seconds(code)
    ratios = []
    for number in range(1, rounds + 1):
        peer, ours = seconds(PEER), seconds(OURS)
        ratios.append(ours / peer)
        print(f"round {number}: {PEER!r} {peer:.2f} s, {OURS!r} {ours:.2f} s, {ratios[-1]:.3f}")
    print(f"import time / peer: median {statistics.median(ratios):.3f} (limit 1.3)")


if __name__ == "__main__":
    main()
