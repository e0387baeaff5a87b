"""Models of KerasHub, small, and of keras.applications, with random weights: make test-models."""

import keras
import numpy as np
import pruned_graphs
import pytest
from compacted import assert_same

import activation_pruning as ap

hub = pytest.importorskip("keras_hub", reason="the extra `models` is not installed").models
# {name in keras.applications: share of the parameters that half of the units take with them}
# (of ConvNeXt's, LayerNormalization keeps the residual stream)
APPLICATIONS = dict.fromkeys(
    [
        "MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "EfficientNetB0",
        "EfficientNetV2B0", "DenseNet121", "NASNetMobile", "InceptionV3", "InceptionResNetV2",
        "Xception", "ResNet50", "ResNet50V2", "VGG16",
    ],
    0.69,
) | {"ConvNeXtTiny": 0.46}  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.models]

SIZES = {"vocabulary_size": 64, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32}
HEADS = SIZES | {"num_heads": 4}
LENGTH = HEADS | {"max_sequence_length": 16}
SHARED = SIZES | {"num_query_heads": 4, "num_key_value_heads": 2}
IMAGES = {"image_shape": (16, 16, 3), "patch_size": 4, "num_layers": 2, "num_heads": 4}
AUDIO = {"max_encoder_sequence_length": 16, "max_decoder_sequence_length": 16}
MIT = {"image_shape": (32, 32, 3), "hidden_dims": [16, 32]}
SAM = {"hidden_size": 16, "num_layers": 2, "intermediate_dim": 32, "num_heads": 4}
SAM |= {"global_attention_layer_indices": [1], "image_shape": (32, 32, 3), "patch_size": 4}
# {name: (its backbone, share of the parameters that half of the units take with them)}
MODELS = {
    "bert": (lambda: hub.BertBackbone(**LENGTH), 0.33),
    "roberta": (lambda: hub.RobertaBackbone(**LENGTH), 0.35),
    "albert": (lambda: hub.AlbertBackbone(**LENGTH, embedding_dim=8), 0.3),
    "distilbert": (lambda: hub.DistilBertBackbone(**LENGTH), 0.35),
    "deberta": (lambda: hub.DebertaV3Backbone(**LENGTH, bucket_size=8), 0.17),
    "gpt2": (lambda: hub.GPT2Backbone(**LENGTH), 0.35),
    "llama": (lambda: hub.LlamaBackbone(**SHARED), 0.32),
    "llama3": (lambda: hub.Llama3Backbone(**SHARED), 0.32),
    "mistral": (lambda: hub.MistralBackbone(**SHARED, sliding_window=4), 0.32),
    "mixtral": (lambda: hub.MixtralBackbone(**SHARED, num_experts=4, sliding_window=4), 0.04),
    "gemma": (lambda: hub.GemmaBackbone(**SHARED, head_dim=4), 0.35),
    "gemma3": (
        lambda: hub.Gemma3Backbone(**SHARED, head_dim=4, image_size=16, vision_encoder=None), 0.38
    ),
    "qwen": (lambda: hub.QwenBackbone(**SHARED), 0.38),
    "phi3": (lambda: hub.Phi3Backbone(**SHARED), 0.32),
    "opt": (lambda: hub.OPTBackbone(**LENGTH), 0.35),
    "bart": (lambda: hub.BartBackbone(**LENGTH), 0.4),
    "t5": (lambda: hub.T5Backbone(**HEADS), 0.1),
    "vit": (lambda: hub.ViTBackbone(**IMAGES, hidden_dim=16, mlp_dim=32), 0.36),
    "mit": (lambda: hub.MiTBackbone([1, 1], 2, [1, 2], [2, 1], 0.1, [7, 3], [4, 2], **MIT), 0.3),
    "sam": (lambda: hub.ViTDetBackbone(**SAM, num_output_channels=8, window_size=4), 0.07),
    "whisper": (lambda: hub.WhisperBackbone(**LENGTH | AUDIO), 0.42),
}  # fmt: skip
# A layer with weights has no configuration, or one that its own constructor does not take.
NOT_LOADED = ("deberta", "mixtral", "vit")


def batch(model):
    """Inputs of two samples: words, masks that hide some, pictures and sounds."""
    generator, found = np.random.default_rng(0), {}
    names = model.input if isinstance(model.input, dict) else {"x": model.input}
    for name, tensor in names.items():
        shape = (2, *(8 if size is None else size for size in tensor.shape[1:]))
        if "int" not in tensor.dtype and "bool" not in tensor.dtype:
            found[name] = generator.normal(size=shape).astype("float32")
        elif name.endswith("mask"):
            found[name] = np.arange(8)[None].repeat(2, 0) < [[8], [6]]
            found[name] = found[name].astype("int32")
        else:
            found[name] = generator.integers(0, 2 if "segment" in name else 64, shape)
    return found if isinstance(model.input, dict) else found["x"]


@pytest.mark.parametrize("name", MODELS)
def test_half_of_the_units_go_and_the_outputs_stay(name, tmp_path):
    make, share = MODELS[name]
    keras.utils.set_random_seed(0)
    model = pruned_graphs.randomised(make())
    ap.prune(model, 0.5, granularity="unit", allocation="uniform")
    small, x = ap.compact(model), batch(model)
    assert_same(model, small, x, 1e-4)
    assert 1 - small.count_params() / model.count_params() >= share
    if name in NOT_LOADED:
        return
    small.save(tmp_path / "m.keras")
    assert_same(small, keras.models.load_model(tmp_path / "m.keras"), x, 1e-6)


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen", "phi3"])
def test_the_width_of_rms_normalised_models_shrinks_where_it_is_no_output(name):
    keras.utils.set_random_seed(0)
    backbone = MODELS[name][0]()
    words = backbone.token_embedding(backbone.output, reverse=True)
    model = pruned_graphs.randomised(keras.Model(backbone.input, words))
    ap.prune(model, 0.5, granularity="unit", allocation="uniform", exclude=())
    small = ap.compact(model)
    assert_same(model, small, batch(model), 1e-4)
    assert small.get_layer("token_embedding").output_dim == 8
    assert 1 - small.count_params() / model.count_params() >= 0.5


@pytest.mark.parametrize("name", APPLICATIONS)
def test_networks_of_keras_applications(name):
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    model = pruned_graphs.randomised(make(weights=None, input_shape=(96, 96, 3), classes=10))
    ap.prune(model, 0.5, granularity="unit", allocation="uniform")
    small = ap.compact(model)
    assert_same(model, small, np.random.default_rng(0).normal(size=(1, 96, 96, 3)), 1e-4)
    assert 1 - small.count_params() / model.count_params() >= APPLICATIONS[name]
