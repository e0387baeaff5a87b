"""Run every experiment of the project, one after the other, each in a process of its own.

    python -m experiments.all --quick

From the repository root. An experiment is a script of this folder with a `main`; its constant
QUICK, a text, has the options of a quick run on scikit-learn's digits. Without --quick each runs
with its defaults, which takes days. Ends with a table, and with exit code 1 if one failed.
"""

import argparse
import ast
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def experiments(folder: Path = HERE) -> dict[Path, list[str]]:
    """The scripts of a folder that have a `main`, and the options of their quick runs.

    Raises ValueError for one that does not say them.
    """
    found = {}
    for path in sorted(set(folder.glob("*.py")) - {Path(__file__)}):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if not any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body):
            continue
        quick = [
            ast.literal_eval(node.value)
            for node in body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "QUICK"
        ]
        if not quick:
            raise ValueError(f'{path} has no QUICK = "--option value ...", of a quick run')
        found[path] = quick[0].split()
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run them all; return 0, 1 if one failed, 130 after Ctrl-C."""
    every = experiments()
    names = [path.stem for path in every]
    parser = argparse.ArgumentParser(
        prog="python -m experiments.all", description="Run every experiment of the project."
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small settings, on scikit-learn's digits")
    add("--jobs", type=int, default=2, help="trials side by side (default: 2)")
    add("--out", type=Path, help="folder of all results (default: results/quick, results/all)")
    add("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    options = parser.parse_args(arguments)
    out = options.out or Path("results", "quick" if options.quick else "all")
    rows = []
    for path, quick in every.items():
        if path.stem not in (options.only or names):
            continue
        more = ["--jobs", str(options.jobs), "--out", str(out / path.stem)]
        rows.append(run(path, [*(quick if options.quick else []), *more]))
        if rows[-1][1] == 130:
            break
    print(f"\n{'experiment':<28} {'exit code':>9} {'seconds':>8}  folder")
    for name, code, seconds in rows:
        print(f"{name:<28} {code:>9} {seconds:>8.0f}  {out / name}")
    codes = [code for _, code, _ in rows]
    print(f"{'all':<28} {'':>9} {sum(seconds for *_, seconds in rows):>8.0f}  {out}")
    return 130 if 130 in codes else int(any(codes))


def run(path: Path, options: list[str]) -> tuple[str, int, float]:
    """(name, exit code, seconds) of one experiment; it ends when this process is ended."""
    command = [sys.executable, str(path), *options]
    print(f"\n== {path.stem}: {' '.join(command)}", flush=True)
    begun = time.monotonic()
    with subprocess.Popen(command) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the experiment has been told, too, and stops its trials
            process.wait()
            code = 130
        except BaseException:
            process.terminate()
            raise
    return path.stem, code, time.monotonic() - begun


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
