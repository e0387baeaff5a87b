"""The options that the experiments share, with defaults that suit the data set."""

import argparse
import contextlib
import math
import re
import sys
from collections.abc import Callable

from activation_pruning.reports.tables import one_of
from lab import datasets, options_file

# For options that are not given. The learning rates come from a short look at the dense network
# alone, two seeds that no comparison uses, by validation loss: on digits 0.1 and 0.3 were close and
# 0.03 worse, on Fashion-MNIST 0.03 was best of 0.01, 0.03, 0.1; on MNIST 0.03, 0.1, 0.2 were close.
# The levels of digits and Fashion-MNIST are ones that a network pruned to 90 % at random has
# reached: above what it can reach, the last events never come. Those of MNIST were not tried.
_NAMES = ("learning_rate", "epochs", "start", "stop", "target_accuracy")
DEFAULTS = {
    "digits": dict(zip(_NAMES, (0.1, 60, 0.85, 0.95, 0.999), strict=True)),
    "mnist": dict(zip(_NAMES, (0.1, 30, 0.90, 0.97, 0.999), strict=True)),
    "fashion_mnist": dict(zip(_NAMES, (0.03, 30, 0.80, 0.88, 0.98), strict=True)),
}
# The protocol of Ganguli & Chong (2024), for all data sets. The last event comes below the last
# level, see `arms.last_level`.
PAPER = dict(zip(_NAMES, (0.01, 500, 0.80, 0.98, 0.98), strict=True))
CLUSTERS = ("scheduler", "local_cluster")


_PROTOCOL = (
    "paper: learning rate 0.01, at most 500 epochs, events from a training accuracy of 0.8 on; the "
    "first tenth of the training data validates; training ends at an accuracy of 0.98 once pruned, "
    "or where the validation loss has risen three times above 1.1 times its minimum; the weights "
    "of the last epoch count"
)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Says the defaults, but for options whose help says what holds without them."""

    def _get_help_string(self, action):
        said = action.default is None or "default" in (action.help or "")
        return action.help if said else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser with the options of every study, which may also stand in a YAML file, --config.

    Keys of the file are the names of the options, with underscores or dashes; what the command
    line says wins. A value is a text as it is typed, and is checked as on the command line.
    """

    def __init__(self, name: str, description: str):
        self.by_name = {}  # before argparse adds --help
        # Not `--conf`: it would be taken for --config when the file has been looked for already.
        super().__init__(description=description, formatter_class=_Help, allow_abbrev=False)
        add = self.add_argument
        add("--config", metavar="FILE", help="YAML file of options; see the README")
        add("--dataset", default="digits", help="digits, mnist, fashion_mnist, or an .npz file")
        add("--data-dir", help=f"folder with NAME.npz; also {datasets.DATA_FOLDER}")
        add("--out", default=f"results/{name}", help="folder of the results")
        add("--jobs", type=count, default=1, help="trials side by side, one thread each")
        told = "address of a Dask scheduler (tcp://...), whose workers run the trials"
        add("--scheduler", metavar="ADDRESS", help=told)
        told = "run the trials on a Dask cluster of so many workers on this machine"
        add("--local-cluster", type=count, metavar="N", help=told)
        told = "go on where it was stopped, which is the default"
        add("--resume", dest="fresh", action="store_false", default=False, help=told)
        add("--fresh", action="store_true", default=False, help="forget the results kept in --out")

    def add_argument(self, *flags, **keywords):
        """As argparse's; notes the option under its name."""
        action = super().add_argument(*flags, **keywords)
        self.by_name[flags[-1].strip("-").replace("-", "_")] = action
        return action

    def parse_args(self, arguments=None, namespace=None):
        """As argparse's, with the options of --config in front."""
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--config")
        path = first.parse_known_args(arguments)[0].config
        if path is not None:
            try:
                given = {text.partition("=")[0] for text in arguments}
                arguments = [*self._of_file(path, given), *arguments]
            except (ImportError, OSError, ValueError) as error:
                self.error(f"--config {path}: {error}")
        options = super().parse_args(arguments, namespace)
        if options.scheduler and options.local_cluster:
            self.error("--scheduler and --local-cluster: give one of them")
        return options

    def _of_file(self, path, given):
        """The options in a YAML file as arguments of a command line that has those given."""
        known = [name for name in self.by_name if name not in ("help", "config")]
        for key, value in options_file.read(path).items():
            name = one_of(key.replace("-", "_"), known, "option")
            if name in CLUSTERS and given & {f"--{o.replace('_', '-')}" for o in CLUSTERS}:
                continue  # one excludes the other, and the command line wins
            yield from _arguments(self.by_name[name], key, value)


def _arguments(action, key, value):
    flag = action.option_strings[-1]
    if value is None:  # `key:` alone: as if it were not there
        return []
    if action.nargs == 0:
        if value not in ("true", "True", "TRUE", "false", "False", "FALSE"):
            raise ValueError(f"{key}: {value}; give true or false")
        return [flag] if value.lower() == "true" else []
    if action.nargs is None:
        if isinstance(value, list):
            raise ValueError(f"{key}: [{', '.join(value)}]; give one value")
        return [f"{flag}={value}"]
    values = value if isinstance(value, list) else [value]
    for each in values:
        if each.startswith("-") and not re.fullmatch(r"-\d+|-\d*\.\d+", each):
            raise ValueError(f"{key}: {each!r} begins with a dash, as options do; leave it out")
    return [flag, *values]


def shared_parser(
    name: str, description: str, arms: tuple[str, ...], more: tuple[str, ...] = ()
) -> Parser:
    """Make a parser of what every experiment has: data, folder, arms, seeds, jobs.

    name: of the experiment, and of the folder of its results. arms run by default, more are there
    to be chosen.
    """
    options = Parser(name, description)
    add = options.add_argument
    choice = {"choices": (*arms, *more), "metavar": "ARM"}
    told = f"what to compare; there are {', '.join(choice['choices'])}"
    add("--arms", nargs="+", default=list(arms), help=told, **choice)
    add("--seeds", type=count, default=3, help="how many; they are 0, 1, ...")
    return options


def parser(
    name: str,
    description: str,
    arms: tuple[str, ...],
    more: tuple[str, ...] = (),
    sparsities: tuple[float, ...] = (0.8,),
    events: tuple[int, ...] = (5,),
) -> Parser:
    """Make the parser of an experiment that prunes while it trains; it may add options.

    name, description, arms, more: see `shared_parser`. sparsities, events: defaults.
    """
    options = shared_parser(name, description, arms, more)
    add = options.add_argument

    def by_data_set(flag, kind, text):
        key = flag.strip("-").replace("-", "_")
        values = ", ".join(f"{data_set} {own[key]}" for data_set, own in DEFAULTS.items())
        add(flag, type=kind, default=argparse.SUPPRESS, help=f"{text} (default: {values})")

    add("--sparsities", nargs="+", type=share, default=list(sparsities), help="final ones")
    add("--events", nargs="+", type=count, default=list(events), help="pruning events")
    add("--hidden", nargs="+", type=count, default=[300, 200, 100, 50], help="units by layer")
    by_data_set("--learning-rate", positive, "of SGD")
    add("--batch-size", type=count, default=32, help="samples in a training step")
    by_data_set("--epochs", count, "at most")
    add("--patience", type=count, default=5, help="epochs without a lower validation loss")
    by_data_set("--start", share, "training accuracy at which the first event comes")
    by_data_set("--stop", share, "training accuracy at which the last event comes")
    by_data_set("--target-accuracy", positive, "training accuracy that ends it, once pruned")
    add("--protocol", choices=("short", "paper"), default="short", help=_PROTOCOL)
    add("--steps-per-execution", type=count, default=1, help="batches in one call; faster above 1")
    return options


def completed(options: argparse.Namespace) -> argparse.Namespace:
    """Fill in what was not given with what suits the data set; drop what was given twice."""
    for name in ("arms", "sparsities", "events"):
        setattr(options, name, list(dict.fromkeys(getattr(options, name))))
    own = DEFAULTS.get(options.dataset, DEFAULTS["mnist"])
    defaults = PAPER if options.protocol == "paper" else own
    for name, value in defaults.items():
        if not hasattr(options, name):
            setattr(options, name, value)
    return options


def check(options: argparse.Namespace, grid: list[dict]) -> None:
    """Raise for levels that cannot work in the runs of a grid, before any training."""
    if options.start > options.stop:
        raise ValueError(f"--start {options.start} is above --stop {options.stop}")
    most = max(settings["events"] for settings in grid)  # 0 for arms without events
    if most > options.epochs:
        raise ValueError(
            f"--events {most} does not fit into --epochs {options.epochs}: "
            "there is at most one event per epoch"
        )


def _number(kind: type, valid: Callable[[float], bool], expected: str) -> Callable[[str], float]:
    """Make a type for argparse: a text as a number of that kind, if it is valid."""

    def read(text):
        with contextlib.suppress(ValueError):
            if valid(value := kind(text)):
                return value
        raise argparse.ArgumentTypeError(f"{text} is not {expected}")

    return read


number = _number(float, math.isfinite, "a finite number")
share = _number(float, lambda value: 0 < value < 1, "a number in (0, 1); for 80 % write 0.8")
count = _number(int, lambda value: value >= 1, "a whole number of at least 1")
positive = _number(float, lambda value: 0 < value < math.inf, "a positive number")
