"""The rules of the house, checked on the source itself."""

import ast
import importlib
import inspect
import statistics
import sys
from pathlib import Path

import pytest

import activation_pruning as ap

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "activation_pruning"
# Every entry of the package, from the top down: a room imports only from rooms below it.
ROOMS = [
    "__init__",
    "strategies",
    "budgets",
    "analysis",
    "exchange",
    "quantization",
    "compaction",
    "regularizers",
    "callbacks",
    "compression",
    "layers",
    "pruning",
    "evidence",
    "hooks",
    "graph",
    "sites",
    "regrowth",  # from here on plain arrays: NumPy and SciPy only
    "surgeons",
    "masks",
    "schedules",
    "amounts",
    "criteria",
    "allocations",
    "reports",  # knows tables, not models
    "keras_private",
    "support",
]
DECISIONS = ROOMS[ROOMS.index("regrowth") : ROOMS.index("reports")]
SOURCES = sorted(PACKAGE.rglob("*.py")) + sorted((ROOT / "experiments").rglob("*.py"))
EVERYTHING = [
    path
    for folder in ("activation_pruning", "experiments", "benchmarks", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
MODULES = [path for path in SOURCES if PACKAGE in path.parents]


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """Dotted names of all modules that a file imports, wherever in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            for alias in node.names:
                yield ".".join([*above, *([node.module] if node.module else []), alias.name])


def inside(path):
    """First names below `activation_pruning` that a file imports."""
    parts = [name.split(".") for name in imported(path)]
    return {name[1] if len(name) > 1 else "__init__" for name in parts if name[0] == ap.__name__}


def functions(node):
    return [n for n in ast.walk(node) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


# -- imports ---------------------------------------------------------------------------------


def room(path):
    """The first name below the package: that of a module, or of the folder it is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_entry_is_a_room_and_the_rooms_are_few():
    found = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    assert found - {"__pycache__", "py.typed"} == set(ROOMS)
    assert len(ROOMS) <= 27


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downward(path):
    own = ROOMS.index(room(path))
    upward = [other for other in inside(path) - {room(path)} if ROOMS.index(other) < own]
    assert upward == []


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) in DECISIONS], ids=name_of)
def test_decisions_know_numpy_and_scipy_only(path):
    foreign = {module.split(".")[0] for module in imported(path)}
    assert foreign - {ap.__name__} - sys.stdlib_module_names <= {"numpy", "scipy"}
    assert inside(path) <= {*DECISIONS, "support"}


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) == "reports"], ids=name_of)
def test_reports_know_tables_not_models(path):
    known = {module.split(".")[0] for module in imported(path)}
    assert not known & {"keras", "tensorflow", "jax", "torch"}


@pytest.mark.parametrize("path", [p for p in SOURCES if p not in MODULES], ids=name_of)
def test_experiments_import_the_public_package_only(path):
    private = {"hooks", "keras_private"}
    assert not inside(path) & private


def test_keras_private_knows_nothing_of_pruning():
    for path in (PACKAGE / "keras_private").iterdir():
        assert path.suffix != ".py" or inside(path) == set()


# -- private things of others ------------------------------------------------------------------


def foreign_privates(path):
    """`x._y` where x is not self or cls, and everything of `keras.src`."""
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Attribute):
            continue
        name, owner = node.attr, node.value
        own = ast.unparse(owner) in ("self", "cls", "super()")
        dunder = name.startswith("__") and name.endswith("__")
        if name.startswith("_") and not dunder and not own:
            yield f"line {node.lineno}: {ast.unparse(node)}"
        if ast.unparse(node) == "keras.src":
            yield f"line {node.lineno}: keras.src"
    yield from (module for module in imported(path) if module.startswith("keras.src"))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_keras_private_touches_private_names(path):
    if path.parent == PACKAGE / "keras_private":
        assert list(foreign_privates(path))  # the check does see them
    else:
        assert list(foreign_privates(path)) == []


# -- size --------------------------------------------------------------------------------------


def lengths(paths):
    return [len(path.read_text(encoding="utf-8").splitlines()) for path in paths]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_are_short(path):
    assert lengths([path])[0] < 300


def test_most_files_of_the_package_are_shorter():
    assert statistics.median(lengths(MODULES)) < 130


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_function_bodies_are_short(path):
    for function in functions(tree(path)):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        assert lines <= 40, f"{function.name}: {lines} lines"


# -- docstrings --------------------------------------------------------------------------------


def public(path):
    """The public functions and classes of a module, and the public methods of those classes."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    for node in tree(path).body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node.name, node


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_public_names_have_docstrings(path):
    assert ast.get_docstring(tree(path)), "the module has none"
    missing = [name for name, node in public(path) if not ast.get_docstring(node)]
    assert missing == []


def offered(module):
    """The functions and classes that a module exports or, without a list of these, defines."""
    own = [name for name, found in vars(module).items() if not name.startswith("_")
           and getattr(found, "__module__", None) == module.__name__]  # fmt: skip
    found = {name: getattr(module, name) for name in getattr(module, "__all__", own)}
    return {n: one for n, one in found.items() if inspect.isroutine(one) or inspect.isclass(one)}


def test_exported_names_have_an_example():
    modules = [ap, *(getattr(ap, name) for name in ap.__all__)]
    everything = {
        f"{module.__name__}.{name}": found.__doc__ or ""
        for module in filter(inspect.ismodule, modules)
        for name, found in offered(module).items()
    }
    assert {f"{ap.__name__}.{name}" for name in ("prune", "regrowth.Rule")} <= set(everything)
    assert [name for name, text in everything.items() if ">>> " not in text] == []
    assert [name for name, text in everything.items() if "Example" not in text] == []


def test_exported_names_exist_and_are_sorted():
    assert ap.__all__ == sorted(ap.__all__)
    for name in ap.__all__:
        assert getattr(ap, name) is not None
    assert importlib.import_module("activation_pruning").__version__


# -- tidiness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_nothing_is_left_to_do(path):
    text = path.read_text(encoding="utf-8")
    for word in ("TO" + "DO", "FIX" + "ME", "X" * 3):
        assert word not in text


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_no_error_is_swallowed(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            empty = all(isinstance(line, ast.Pass) for line in node.body)
            assert not (broad and empty), f"line {node.lineno}"


@pytest.mark.parametrize("path", [p for p in EVERYTHING if p.name.startswith("test_")], ids=name_of)
def test_every_test_asserts_something(path):
    found = functions(tree(path))
    asserting, known = set(), None
    while asserting != known:  # helpers that assert, and helpers that call those
        known = set(asserting)
        asserting |= {function.name for function in found if _asserts(function, known)}
    assert [f.name for f in found if f.name.startswith("test_") and f.name not in asserting] == []


def _asserts(function, helpers):
    if any(isinstance(node, ast.Assert) for node in ast.walk(function)):
        return True
    calls = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
    marks = ("pytest.raises", "pytest.warns", "np.testing.", "warnings.simplefilter")
    return bool(set(calls) & helpers) or any(call.startswith(marks) for call in calls)


@pytest.mark.parametrize(
    "name",
    ["README.md", "CHANGELOG.md", "LICENSE", "Makefile", "setup.cfg", "pyproject.toml", ".ci/run"],
)
def test_the_house_has_its_papers(name):
    assert (ROOT / name).stat().st_size > 0
