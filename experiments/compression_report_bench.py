"""The measurements of compression_report: one network, before and after pruning."""

import time

import keras
import numpy as np

import activation_pruning as ap
from lab import images, network, study

CRITERIA = ("activation_magnitude", "activation", "mean_activation", "magnitude", "random")
CALIBRATION = 2048  # training images that a criterion sees
BATCHES = (1, 256)  # samples of a timed call
ENCODINGS = ("float32", "float32_gzip", "csr", "bitmask", "int8", "int8_huffman")


class Bench:
    """The network under test, its data, and a clock for each phase."""

    def __init__(self, settings: dict):
        self.settings, self.times = settings, {}
        self.arrays = images.load(settings["dataset"])
        self.model = self._network()
        self.dense = self.model.get_weights()
        chosen = np.random.default_rng(settings["seed"]).permutation(len(self.arrays["x_train"]))
        self.calibration = self.arrays["x_train"][chosen[:CALIBRATION]]

    def timed(self, phase: str, function, *arguments, **options):
        """Call a function; its time is added to that of the phase."""
        begun = time.perf_counter()
        found = function(*arguments, **options)
        self.times[phase] = self.times.get(phase, 0.0) + time.perf_counter() - begun
        return found

    def reset(self) -> None:
        """The dense weights again, and a fresh optimizer."""
        images.compiled(self.model, self.settings["learning_rate"])
        self.model.set_weights(self.dense)

    def prune(self, sparsity: float, criterion: str, **options) -> None:
        """Prune the network to a sparsity, from where it is."""
        ap.prune(
            self.model, sparsity, criterion, data=self.calibration, seed=self.settings["seed"],
            verbose=0, **options,
        )  # fmt: skip

    def fine_tune(self, model=None) -> None:
        """Some epochs, with pruned weights kept at zero."""
        model = self.model if model is None else model
        images.fit(model, self.arrays, self.settings, self.settings["fine_tune"], [ap.KeepPruned()])

    def accuracy(self, model=None) -> float:
        """Test accuracy now."""
        model = self.model if model is None else model
        return network.scores(model, self.arrays["x_test"], self.arrays["y_test"])["accuracy"]

    def _network(self):
        name = self.settings["network"]
        if name in images.NETWORKS:
            model = images.build(name, self.arrays, self.settings)
            self.timed("training", images.fit, model, self.arrays, self.settings,
                       self.settings["epochs"])  # fmt: skip
            return model
        keras.utils.set_random_seed(self.settings["seed"])
        model = keras.saving.load_model(name, compile=False)
        shape = model.input_shape[1:]
        for part in ("x_train", "x_test"):
            if np.prod(shape) != self.arrays[part][0].size:
                raise ValueError(
                    f"{name} takes inputs of shape {shape}, the images of "
                    f"{self.settings['dataset']} are {self.arrays[part].shape[1:]}"
                )
            self.arrays[part] = self.arrays[part].reshape(-1, *shape)
        sums = np.asarray(model.predict(self.arrays["x_test"][:256], verbose=0)).sum(axis=-1)
        if np.abs(sums - 1).max() > 1e-3:
            raise ValueError(f"{name}: the outputs are no probabilities; let it end in softmax")
        return images.compiled(model, self.settings["learning_rate"])


def work(settings: dict) -> tuple[dict, dict]:
    """Measure everything about one network; runs in a worker process."""
    begun = time.perf_counter()
    with study.warned() as told:
        result = _measured(settings, begun)
    result |= {"warnings": told, "time_s": time.perf_counter() - begun}
    return result | {"test_accuracy": result["accuracy"][-1]["test_accuracy"]}, {}


def _measured(settings, begun):
    def say(what):
        print(f"  {what}, {time.perf_counter() - begun:.0f} s", flush=True)

    bench = Bench(settings)
    say(f"{settings['network']} is ready: {bench.accuracy():.2%}")
    networks = {"dense": images.copy(bench.model)}
    iterations = iterative(bench)
    networks["pruned"] = images.copy(bench.model)
    say(f"pruned step by step: {bench.accuracy():.2%}")
    networks["units gone"] = by_unit(bench)
    say("units taken out")
    result = {
        "accuracy": [_scored(name, model, bench) for name, model in networks.items()],
        "sizes": [
            {"network": name} | row
            for name, model in networks.items()
            for row in ap.analysis.sizes(model).drop(columns="note").to_dict("records")
        ],
        "iterations": iterations,
        "connections": connections(networks["dense"], networks["pruned"]),
        "cost": [
            {"network": name} | _numbers(ap.analysis.cost(model).total)
            for name, model in networks.items()
        ],
    }
    result["criteria"] = against_random(bench)
    say("pruned at random beside it")
    result["sparsity_size"] = sparsity_size(bench)
    result["thresholds"] = thresholds(bench)
    say("thresholds tried")
    result["times"] = [{"phase": phase, "time_s": time_s} for phase, time_s in bench.times.items()]
    result["inference"] = inference(networks, bench)
    return result


def iterative(bench: Bench) -> list[dict]:
    """Prune from one sparsity to the next up to the last, and train a little after each."""
    rows = [{"iteration": 0, "target_sparsity": 0.0, "accuracy_pruned": bench.accuracy()}]
    rows[0]["accuracy_fine_tuned"] = rows[0]["accuracy_pruned"]
    last = bench.settings["sparsity"]
    steps = [s for s in bench.settings["sparsities"] if s <= last]
    for number, sparsity in enumerate(steps, 1):
        bench.timed("pruning", bench.prune, sparsity, bench.settings["criterion"])
        row = {"iteration": number, "target_sparsity": sparsity}
        row |= {"accuracy_pruned": bench.accuracy()}
        bench.timed("fine-tuning", bench.fine_tune)
        rows.append(row | {"accuracy_fine_tuned": bench.accuracy()})
    return rows


def by_unit(bench: Bench) -> keras.Model:
    """The dense network without a share of its units, trained a little."""
    bench.reset()
    bench.timed(
        "pruning by unit", bench.prune, bench.settings["unit_sparsity"],
        bench.settings["criterion"], allocation="uniform", granularity="unit",
    )  # fmt: skip
    small = bench.timed("compaction", ap.compact, bench.model)
    bench.timed("fine-tuning by unit", bench.fine_tune, small)
    return images.copy(small)


def connections(before: keras.Model, after: keras.Model) -> list[dict]:
    """Weights that are not zero, by layer."""
    rows = []
    for state, model in (("before", before), ("after", after)):
        table = ap.analysis.cost(model).table()
        for row in table[table["weights"] > 0].itertuples():
            rows.append({"layer": row.layer, "state": state, "connections": int(row.nonzeros),
                         "weights": int(row.weights)})  # fmt: skip
    return rows


def against_random(bench: Bench) -> list[dict]:
    """Every sparsity in one step from the dense network, by criterion, magnitude and at random."""
    rows = []
    for criterion in dict.fromkeys([bench.settings["criterion"], "magnitude", "random"]):
        for sparsity in bench.settings["sparsities"]:
            bench.reset()
            bench.prune(sparsity, criterion)
            row = {"criterion": criterion, "target_sparsity": sparsity}
            row["accuracy_pruned"] = bench.accuracy()
            bench.fine_tune()
            rows.append(row | {"accuracy_fine_tuned": bench.accuracy()})
    return rows


def sparsity_size(bench: Bench) -> list[dict]:
    """Bytes in every encoding at every sparsity."""
    rows = []
    for sparsity in [0.0, *bench.settings["sparsities"]]:
        bench.reset()
        if sparsity:
            bench.prune(sparsity, bench.settings["criterion"])
        table = ap.analysis.sizes(bench.model).set_index("encoding")["size_bytes"]
        rows += [
            {"encoding": name, "target_sparsity": sparsity, "size_bytes": int(table[name])}
            for name in ENCODINGS
        ]
    return rows


def thresholds(bench: Bench) -> list[dict]:
    """Weights below a threshold become zeros: accuracy without training again, and size.

    threshold = quantile of |w|; the output layer stays as it is, as in `prune`.
    """
    bench.reset()
    scores = ap.scores(bench.model, "magnitude", verbose=0)
    magnitudes = np.concatenate([values.ravel() for values in scores.values()])
    rows = []
    for threshold in np.linspace(0, np.quantile(magnitudes, 0.99), bench.settings["thresholds"]):
        bench.reset()
        # Pruning to the share of weights below the threshold takes exactly these.
        below = float((magnitudes < threshold).mean())
        if below:
            bench.prune(below, "magnitude")
        sizes = ap.analysis.sizes(bench.model).set_index("encoding")["size_bytes"]
        row = {"threshold": float(threshold), "sparsity": below, "test_accuracy": bench.accuracy()}
        rows.append(row | {f"{name}_bytes": int(sizes[name]) for name in ("csr", "float32_gzip")})
    return rows


def inference(networks: dict[str, keras.Model], bench: Bench) -> list[dict]:
    """Times of a batch of all networks, in turn."""
    rows = []
    for size in BATCHES:
        found = ap.analysis.latency_compare(
            networks, bench.arrays["x_test"], size, rounds=bench.settings["rounds"]
        )
        rows += found.summary.rename(columns={"name": "network"}).to_dict("records")
    return rows


def _scored(name, model, bench):
    row = {"network": name}
    for part in ("train", "test"):
        found = network.scores(model, bench.arrays[f"x_{part}"], bench.arrays[f"y_{part}"])
        row |= {f"{part}_{key}": found[key] for key in ("accuracy", "loss")}
        row |= {f"{part}_top_5": found["top_5"]}
    return row


def _numbers(total):
    names = ("parameters", "weights", "nonzeros", "multiply_adds", "sparse_multiply_adds")
    return {name: int(total[name]) for name in names}
