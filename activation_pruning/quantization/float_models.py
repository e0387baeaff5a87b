"""What can be quantised: a model in float, with nothing of this package on it."""

from activation_pruning import keras_private, sites
from activation_pruning.hooks import fake_quantization
from activation_pruning.hooks.attachment import attachment
from activation_pruning.support.names import quoted
from activation_pruning.support.types import Model


def check_float(model: Model) -> None:
    """Raise where a model is quantised already, in earnest or as if, or in a fit of ours.

    Raises:
        TypeError: for something that is no Keras 3 model.
        ValueError: as said; says how to come back to a model in float.
    """
    sites.check_model(model)
    if fake_quantization.attached(model) is not None:
        raise ValueError(
            "the model is fake-quantised already; take that off first: .remove() of what "
            "fake_quantize returned, or model = ap.strip(model)"
        )
    done = [
        layer.name
        for layer in keras_private.with_sublayers(model)
        if getattr(layer, "quantization_mode", None)
    ]
    if done:
        raise ValueError(
            f"{quoted(done)}: quantised already; start from the float model, as it was before "
            "model.quantize or ap.quantize"
        )
    if attachment(model).owners:
        raise ValueError(
            "callbacks of this package are attached to the model: wait until its fit is over, or "
            "take them off with ap.detach(model)"
        )
