"""Mutation testing: change the source a little, and see whether a test fails.

`make mutate` runs this with one group of rooms. mutmut makes the changes ("mutants"), finds for
each function the tests that reach it, and runs these in a forked process, once for each mutant. All
of it happens in a copy of the repository below build/. What came out, with a diff for each mutant
that survived, is written to results/mutants/.
"""

import argparse
import ast
import collections
import functools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "activation_pruning"
# Tests mirror the package: those of masks/ are in tests/masks, those of allocations.py in one file.
DECISIONS = "allocations.py amounts criteria masks regrowth.py schedules"
GROUPS = {
    "decisions": DECISIONS.split(),
    "surgeons": ["surgeons"],
    "compaction": ["compaction"],
    "hooks": ["hooks"],
    "callbacks": ["callbacks"],
}
# Their tests make optimizers while they are collected: a TensorFlow that has run hangs in a fork.
UNFORKED = {"hooks", "callbacks"}
# Tests beyond those of the room itself, and what takes long for it starts processes of its own.
MORE_TESTS = {
    "callbacks": ["tests/compression/test_compressed.py"],
    "hooks": [
        "tests/callbacks/test_training.py",
        "tests/evidence/test_padding.py",
        "tests/pruning/test_event.py",
    ],
}
LONG = "--ignore=tests/hooks/test_distribute.py"
# It starts a process elsewhere, in which mutmut does not find its settings.
ELSEWHERE = "--deselect=tests/callbacks/test_pruning_callback.py::test_schedule_objects_of_tfmot"
# The same examples of hypothesis each time, and no limit to the time of one.
PYTEST = [
    "-W",
    "ignore",
    "-p",
    "no:cacheprovider",
    "-m",
    "not slow",
    "--hypothesis-profile=ci",
    LONG,
    ELSEWHERE,
]
# What a message says is not tested here: neither strings nor what is raised or warned are changed.
MESSAGES = [r"^\s*raise\b", r"\bwarnings\.warn\("]


def main() -> int:
    """Run mutmut on a group, or on a sample of its mutants; return 0 once all are tried."""
    options = arguments()
    sources = GROUPS[options.group]
    work = ROOT / "build" / "mutants" / options.group
    copy_to(work)
    for path in files_of(work, sources):
        path.write_text(undecorated(path.read_text()))
    for path in (work / "tests").rglob("*.py"):  # mutmut's own frames are where warnings point to
        path.write_text(path.read_text().replace(".filename == __file__", ".filename"))
    tests = [tests_of(source) for source in sources] + MORE_TESTS.get(options.group, [])
    configure(work, sources, tests)
    os.chdir(work)
    forked = options.group not in UNFORKED
    names = run(options.names, options.sample, options.seed, forked)
    write_results(ROOT / "results" / "mutants" / f"{options.group}.txt", names)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("names", nargs="*", help="of mutants, as in the results; with * for any")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants, by chance; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def copy_to(work: Path) -> None:
    """A fresh copy of all files that git knows, as they are now."""
    shutil.rmtree(work, ignore_errors=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        if name and (ROOT / name).is_file():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, work / name)


def files_of(work: Path, sources: list[str]) -> list[Path]:
    rooms = [work / PACKAGE / source for source in sources]
    return [file for room in rooms for file in ([room] if room.is_file() else room.rglob("*.py"))]


def tests_of(source: str) -> str:
    return f"tests/test_{source}" if source.endswith(".py") else f"tests/{source}"


def undecorated(code: str) -> str:
    """`@d` above `def f` as `f = d(f)` below it: mutmut leaves decorated functions alone."""
    lines = code.splitlines()
    for node in reversed(list(ast.walk(ast.parse(code)))):
        for function in reversed(getattr(node, "body", []) if owns_functions(node) else []):
            if isinstance(function, ast.FunctionDef) and function.decorator_list:
                value = function.name
                for decorator in reversed(function.decorator_list):
                    value = f"{ast.unparse(decorator)}({value})"
                indent = " " * function.col_offset
                lines.insert(function.end_lineno, f"{indent}{function.name} = {value}")
                del lines[function.decorator_list[0].lineno - 1 : function.lineno - 1]
    return "\n".join(lines) + "\n"


def owns_functions(node: ast.AST) -> bool:
    return isinstance(node, ast.Module | ast.ClassDef)


def configure(work: Path, sources: list[str], tests: list[str]) -> None:
    """Write mutmut's settings into the copy's pyproject.toml."""
    rooms = [f"{PACKAGE}/{name}" + ("" if name.endswith(".py") else "/*") for name in sources]
    settings = {
        "source_paths": [PACKAGE],
        "only_mutate": rooms,
        "do_not_mutate_patterns": MESSAGES,
        "also_copy": ["experiments"],
        "pytest_add_cli_args": PYTEST,
        "pytest_add_cli_args_test_selection": tests,
        # A process that has imported TensorFlow, but not yet used it, can be forked.
        "process_isolation": "forkserver",
        "timeout_constant": 4.0,
        "timeout_multiplier": 3.0,
        "track_dependencies": False,
    }
    written = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    with open(work / "pyproject.toml", "a") as file:
        file.write("\n[tool.mutmut]\n" + "\n".join(written) + "\n")


def run(names: list[str], sample: int, seed: int, forked: bool) -> list[str]:
    """Try these mutants, a sample of all, or all; return their names."""
    from mutmut import __main__ as mutmut
    from mutmut.mutation import file_mutation, mutators

    file_mutation.NEVER_MUTATE_FUNCTION_NAMES.add("__init__")  # Keras reads those of its layers
    kept = [pair for pair in mutators.mutation_operators if pair[1] is not mutators.operator_string]
    mutators.mutation_operators[:] = kept
    mutmut.get_mutant_runner = functools.partial(runner, forked=forked)
    with mutmut.CatchOutput(spinner_title="Generating mutants"):
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.create_mutants(1)
    found = [name for _, name, _ in mutmut.collect_source_file_mutation_data(mutant_names=names)[0]]
    if sample and not names:
        found = random.Random(seed).sample(sorted(found), min(sample, len(found)))
    mutmut._run(found, 1)
    return found


def runner(workers: int = 1, forked: bool = True) -> object:
    """What runs tests for mutmut: the quick ones first, since one that fails is enough.

    In forks of a process that has collected the tests, or each mutant in a process of its own.
    """
    from mutmut.runners.harness import PytestRunner
    from mutmut.state import state
    from mutmut.workers.isolation import ForkServerRunner, MutantResult

    class QuickFirst(ForkServerRunner):
        def submit(self, name: str, tests: list[str], *limits: float) -> None:
            super().submit(name, sorted(tests, key=state().duration_by_test.get), *limits)

        def run_clean_tests(self, tests: list[str]) -> int:
            return 0  # all have passed while mutmut found out which test reaches what

    class Alone(QuickFirst):
        def startup(self) -> None:
            self._found = []

        def _run_in_child(self, operation: Callable) -> Any:
            return operation(PytestRunner())  # of which tests reach what: in this process

        def submit(self, name: str, tests: list[str], *limits: float) -> None:
            seconds = state().duration_by_test
            quick = sorted(tests, key=seconds.get)
            here = os.path.abspath("mutants")
            command = [sys.executable, "-m", "pytest", "-x", "-q", "--rootdir=.", *PYTEST, *quick]
            places = {"PYTHONPATH": here, "MUTANT_UNDER_TEST": name}
            limit = 60 + 5 * sum(seconds[test] for test in tests)
            try:
                done = subprocess.run(
                    command, cwd=here, env=os.environ | places, timeout=limit, capture_output=True
                )
                code = done.returncode
            except subprocess.TimeoutExpired:
                code = 36  # mutmut's own for it
            self._found.append(MutantResult(name, code if tests else 33, 0.0))

        def wait_for_result(self, timeout: float | None = None) -> MutantResult:
            return self._found.pop(0)

        def has_capacity(self) -> bool:
            return not self._found

        def pending_count(self) -> int:
            return len(self._found)

        def shutdown(self) -> None:
            pass

    return (QuickFirst if forked else Alone)(workers, PytestRunner, {})


def write_results(path: Path, names: list[str]) -> None:
    """How many mutants there were of each outcome, and the change of each that no test noticed."""
    from mutmut import __main__ as mutmut

    found = mutmut.collect_source_file_mutation_data(mutant_names=names)[0]
    outcomes = {name: mutmut.status_by_exit_code[code] for _, name, code in found}
    counted = collections.Counter(outcomes.values()).most_common()
    text = [f"{len(names)} mutants: " + ", ".join(f"{count} {kind}" for kind, count in counted)]
    for data, name, _ in sorted(found, key=lambda mutant: mutant[1]):
        if outcomes[name] != "killed":
            text += ["", f"## {outcomes[name]}: {name}"]
            text += [mutmut.get_diff_for_mutant(name, path=data.path)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text) + "\n")
    print(text[0])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
