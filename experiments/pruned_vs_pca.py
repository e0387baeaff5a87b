"""Is a pruned network better than a PCA-reduced one?

For each seed a dense network and pruned ones are trained alike. The dense one is then reduced by
PCA, layer by layer: to the ranks of the pruned network, and, since sparse matrices may have full
rank, to as many weights as the pruned network has left. All are compared raw and after the same
number of epochs of fine-tuning, each at the learning rate that suits it best on validation data.

    python pruned_vs_pca.py --jobs 2

Source: Ganguli & Chong, Activation-Based Pruning of Neural Networks, Algorithms 17(1):48, 2024.
"""

import sys

import keras
import pruned_vs_pca_report as report

import activation_pruning as ap
from lab import arms, command_line, dense, network, study

ARMS = ("activation", "activation_magnitude", "magnitude", "random")
# What the training of the dense twin does not depend on.
OF_THE_COMPARISON = ("fine_tuning", "rate_shares", "start", "stop")
QUICK = (
    "--seeds 2 --hidden 40 20 --epochs 12 --start 0.3 --stop 0.6 --sparsities 0.8 --events 2"
    " --fine-tuning 2 --rate-shares 0.3"
)


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    parser = command_line.parser(report.NAME, "Pruned against PCA-reduced networks.", ARMS)
    told = "epochs of fine-tuning of every network"
    parser.add_argument("--fine-tuning", type=command_line.count, default=5, help=told)
    told = "learning rates to try in fine-tuning, in shares of --learning-rate; each network takes "
    told += "the one with the lowest validation loss"
    parser.add_argument(
        "--rate-shares", nargs="+", type=command_line.positive, default=[1.0, 0.3, 0.1], help=told
    )
    return study.run(parser, arguments, settings_grid, work, report.publish)


def settings_grid(options, data: str) -> list[dict]:
    """One settings dict per run."""
    own = {"fine_tuning": options.fine_tuning, "rate_shares": options.rate_shares}
    return arms.settings_grid(options, data, **own)


def work(settings: dict) -> tuple[dict, dict]:
    """Train a pruned network and its dense twin, reduce the twin, compare."""
    trained = arms.train(settings)
    twin = _dense_twin(settings, arms.untrained(settings, trained.data))
    network.compile_as(keras, twin, settings)
    data = trained.data
    found = ap.analysis.compare_low_rank(
        twin,
        trained.model,
        data.x_test,
        data.y_test,
        train=(data.x_train, data.y_train),
        epochs=settings["fine_tuning"],
        learning_rates=[
            float(f"{share * settings['learning_rate']:.6g}") for share in settings["rate_shares"]
        ],
        validation=(data.x_validation, data.y_validation),
        batch_size=settings["batch_size"],
        match=("rank", "weights"),
        seed=settings["seed"],
    )
    result = trained.result | {"accuracy": found.accuracy.to_dict("records")}
    result |= {"ranks": found.ranks.to_dict("records"), "scree": []}
    if settings["pictures"]:
        result["scree"] = found.scree.to_dict("records")
    return result, _kernels(twin, trained.model) if settings["pictures"] else {}


def _dense_twin(settings, model):
    """The model with the weights of the dense twin, which the arms of a seed share."""
    own = settings | {"arm": "dense", "sparsity": 0.0, "events": 0, "pictures": False}
    names = tuple(key for key in own if key not in OF_THE_COMPARISON)
    return dense.kept(
        model, own, names, lambda: model.set_weights(arms.train(own).model.get_weights())
    )


def _kernels(dense, pruned):
    pairs = {"dense": dense, "pruned": pruned}
    return {
        f"{name} {layer}": kernel.astype("float16")  # for pictures
        for name, model in pairs.items()
        for layer, kernel in network.hidden_kernels(model).items()
    }


if __name__ == "__main__":
    sys.exit(main())
