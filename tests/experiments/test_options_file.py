"""Files of options: each text as it is typed, and nothing that a YAML file can do besides."""

import itertools
import time

import pytest

from lab import command_line, options_file


def parser():
    options = command_line.shared_parser("naps", "Sleep.", ("short", "long"))
    options.add_argument("--hidden", nargs="+", type=command_line.count, default=[3])
    options.add_argument("--rate", type=command_line.number, default=0.5)
    options.add_argument("--shift", nargs="+", type=command_line.number, default=[0.0])
    options.add_argument("--words", nargs="+", default=["a"])
    return options


def parsed(tmp_path, text, *more):
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    return parser().parse_args(["--config", str(tmp_path / "study.yaml"), *more])


def refused(tmp_path, capsys, text):
    with pytest.raises(SystemExit) as stopped:
        parsed(tmp_path, text)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return " ".join(told.split())


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("seeds: 010", "seeds", 10),  # YAML 1.1: 8
        ("seeds: 08", "seeds", 8),
        ("hidden: [010, 1_0, '7']", "hidden", [10, 10, 7]),
        ("dataset: no", "dataset", "no"),  # False
        ("dataset: on", "dataset", "on"),
        ("dataset: 2024-01-01", "dataset", "2024-01-01"),  # a date
        ("dataset: 1:30", "dataset", "1:30"),  # 90
        ("dataset: 0x10", "dataset", "0x10"),  # 16
        ("dataset: .nan", "dataset", ".nan"),
        ("dataset: '~'", "dataset", "~"),
        ("dataset: ~", "dataset", "digits"),  # as if it were not there
        ("dataset: null", "dataset", "digits"),
        ("dataset:", "dataset", "digits"),
        ("dataset: '--fresh'", "dataset", "--fresh"),  # one value is no option
        ("rate: -1e-3", "rate", -1e-3),  # a text in YAML 1.1
        ("rate: 1e5", "rate", 1e5),
        ("shift: [-1, -.5, 2]", "shift", [-1.0, -0.5, 2.0]),
        ("fresh: True", "fresh", True),
        ("fresh: FALSE", "fresh", False),
        (
            "words: [no, 010, 1:30, true, 'a b', '']",
            "words",
            ["no", "010", "1:30", "true", "a b", ""],
        ),
        ("base: &x [short]\narms: *x", None, "option 'base' is unknown"),
    ],
)
def test_texts_are_read_as_they_are_typed(tmp_path, capsys, text, name, value):
    if name is None:
        assert value in refused(tmp_path, capsys, text)
    else:
        options = parsed(tmp_path, text)
        assert getattr(options, name) == value
        assert type(getattr(options, name)) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seeds: 1:30", "1:30 is not a whole number"),
        ("seeds: 0x10", "0x10 is not a whole number"),
        ("seeds: 2.0", "2.0 is not a whole number"),
        ("seeds: true", "true is not a whole number"),
        ("rate: .nan", ".nan is not a finite number"),
        ("rate: nan", "nan is not a finite number"),
        ("rate: .inf", ".inf is not a finite number"),
        ("fresh: yes", "fresh: yes; give true or false"),
        ("fresh: on", "give true or false"),
        ("fresh: [true]", "give true or false"),
        ("arms: [short, --fresh]", "'--fresh' begins with a dash, as options do"),
        ("arms: --fresh", "'--fresh' begins with a dash"),
        ("hidden: [3, --out=/tmp/x]", "begins with a dash"),
        ("words: [-h]", "begins with a dash"),
        ("words: [--]", "begins with a dash"),
        ("arms: [short, [long]]", "give a number, a text, or a list of these"),
        ("arms: [short, ~]", "a list holds nothing"),
        ("arms: {short: 1}", "give a number, a text"),
        ("arms: []", "expected at least one argument"),
        ("seeds: 2\nseeds: 3", "seeds: the option has no name, or comes twice"),
        ("seeds: 2\n'seeds': 3", "comes twice"),
        ("? [seeds]\n: 2", "an option: give a number, a text"),
        ("~: 2", "has no name"),
        ("<<: {seeds: 2}", "<<: give a number, a text"),
        ("seeds: !!int 2", "without tags"),
        ("seeds: !!python/object/apply:os.system [ls]", "without tags"),
        ("seeds: 2\n---\nseeds: 3", "not readable as YAML"),
        ("seeds: *x", "not readable as YAML"),
        ("a: &a [*a]", "give a number, a text, or a list"),
        ("seeds: '\0'", "not readable as YAML"),
        ("", "holds nothing"),
        ("seeds", "holds text"),
        ("help: true", "option 'help' is unknown"),
        ("config: x", "option 'config' is unknown"),
    ],
)
def test_what_is_no_option_is_refused(tmp_path, capsys, text, told):
    message = refused(tmp_path, capsys, text)
    assert told in message
    assert "study.yaml" in message or "argument --" in message


def test_bombs_are_refused_at_once(tmp_path, capsys):
    begun = time.perf_counter()
    letters = "abcdefghij"
    lines = [f"a: &a [{', '.join(['lol'] * 10)}]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in itertools.pairwise(letters)]
    assert "give a number, a text" in refused(tmp_path, capsys, "\n".join(lines))
    assert "nested too deeply" in refused(tmp_path, capsys, "a: " + "[" * 30_000)
    assert "nested too deeply" in refused(tmp_path, capsys, "a: " + "{a: " * 10_000)
    assert "no more than 65,536" in refused(tmp_path, capsys, "a: [" + "x, " * 10**6 + "]")
    assert time.perf_counter() - begun < 60


def test_the_command_line_wins(tmp_path):
    assert parsed(tmp_path, "seeds: 2", "--seeds", "4").seeds == 4


def test_a_cut_option_is_not_taken_for_another(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["--conf", "study.yaml"])  # the file would not be read
    assert "unrecognized arguments: --conf" in capsys.readouterr().err


def test_what_is_read_is_text(tmp_path):
    (tmp_path / "o.yaml").write_text("a: 1\nb: [x, 2]\nc:\n")
    assert options_file.read(tmp_path / "o.yaml") == {"a": "1", "b": ["x", "2"], "c": None}
