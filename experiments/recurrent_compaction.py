"""What is left of a recurrent network when units are pruned and taken out with all their gates?

An LSTM, a GRU and a bidirectional LSTM learn to tell nine speakers by their vowels. Whole units are
pruned in one step, the same share of each layer, chosen by one of several criteria (the arms); the
network is trained a little more with the zeros kept, and the units are taken out: of the kernel,
the recurrent kernel and the bias of every gate, and of what reads them. Each is measured: accuracy,
parameters, multiply-adds, bytes of the file, and time of a batch beside that of the dense network.

    python recurrent_compaction.py --jobs 2

Sources: Hochreiter & Schmidhuber, Neural Computation 9(8), 1997; Cho et al., EMNLP 2014; Kudo et
al., Pattern Recognition Letters 20, 1999 (the data); Wen et al., ICLR 2018 (units of LSTMs).
"""

import sys
from pathlib import Path

import keras

import activation_pruning as ap
from lab import command_line, compacting, compacting_report, publication, sequences, study

NAME = "recurrent_compaction"
ARMS = (compacting.DENSE, "magnitude", "activation", "random")
MORE = ("mean_activation", "taylor")
SCORED = 1000  # training sequences that criteria look at
QUICK = (
    "--dataset digits --networks lstm bidirectional --arms dense activation random --seeds 2 "
    "--units 16 --epochs 6 --fine-tune 2 --shares 0.5 --rounds 5"
)
NETWORKS = {
    "lstm": lambda units: keras.layers.LSTM(units, name="units"),
    "gru": lambda units: keras.layers.GRU(units, name="units"),
    "bidirectional": lambda units: keras.layers.Bidirectional(
        keras.layers.LSTM(units // 2, name="units"), name="both_ways"
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Prune units of recurrent networks, take them out with all their gates, measure."
    parser = command_line.shared_parser(NAME, about, ARMS, MORE)
    parser.set_defaults(dataset=sequences.VOWELS)
    parser.by_name["dataset"].help = sequences.HELP
    add = parser.add_argument
    add("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="which")
    add("--units", type=command_line.count, default=128, help="of the recurrent layer, even")
    told = "of the units of each layer that are pruned"
    add("--shares", nargs="+", type=command_line.share, default=[0.3, 0.5, 0.7], help=told)
    compacting.add_options(parser, epochs=40, fine_tune=10, rate=3e-3, batch_size=32)
    return study.run(
        parser, arguments, grid, work, publish, compacting.describe,
        alone=compacting.timings, load=sequences.load,
    )  # fmt: skip


def grid(options, data: str) -> list[dict]:
    """One settings dict per kind of network, seed and arm."""
    if options.units % 2:
        raise ValueError(f"--units {options.units}: half of them read backwards; give an even one")
    sequences.load(options.dataset, options.samples)  # raises for data that cannot serve
    return [
        settings
        for network in dict.fromkeys(options.networks)
        for more in [{"network": network, "units": options.units}]
        for settings in compacting.grid(options, data, more, options.shares)
    ]


def build(kind: str, shape: tuple, classes: int, units: int) -> keras.Model:
    """A layer that reads the steps of a sequence, and one that says whose it is."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Masking(name="end"),
            NETWORKS[kind](units),
            keras.layers.Dense(classes, "softmax", name="output"),
        ],
        name=kind,
    )


def work(settings: dict) -> tuple[dict, dict]:
    """One arm of one network, or what comes last, times; runs in a worker process."""
    if settings["arm"] == compacting.TIMES:
        x = sequences.load(settings["dataset"])["x_test"]
        return compacting.timed(settings, x), {}
    arrays = sequences.load(settings["dataset"], settings["samples"], settings["seed"])
    shape, classes = arrays["x_train"].shape[1:], int(arrays["y_train"].max()) + 1

    def dense():
        return build(settings["network"], shape, classes, settings["units"])

    model = compacting.trained(dense, ("network", "units"), settings, arrays)
    prune = lambda share, model: pruned(share, model, arrays, settings)  # noqa: E731
    return compacting.trial(settings, model, arrays, prune), {}


def pruned(share: float, model: keras.Model, arrays: dict, settings: dict) -> tuple:
    """(the network without the pruned units, what was measured on the way)."""
    ap.prune(
        model, share, settings["arm"], granularity="unit", allocation="uniform",
        data=(arrays["x_train"][:SCORED], arrays["y_train"][:SCORED]),
        seed=settings["seed"], verbose=0,
    )  # fmt: skip
    found = {"accuracy_untuned": compacting.accuracy(model, arrays)}
    compacting.fine_tune(model, arrays, settings, [ap.KeepPruned()])
    small = ap.compact(model)
    return small, found | {"largest_difference": compacting.difference(model, small, arrays)}


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    return compacting_report.publish(
        records, NAME, "Recurrent networks whose pruned units are gone", "pruned_share",
        {"network": "network"}, lambda share, network: f"{network}, {share:.0%} of the units gone",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
