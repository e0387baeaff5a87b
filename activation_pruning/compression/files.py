"""A compressed model as bytes, and back: architecture and tensors, without Keras."""

from __future__ import annotations

from typing import Any

from activation_pruning.compression import container, tensors
from activation_pruning.compression.container import CompressedFileError
from activation_pruning.compression.tensors import Raw, Shared


def write(config: dict, weights: list[Raw | Shared]) -> tuple[bytes, list[dict], list[int]]:
    """The bytes of a file.

    Args:
        config: architecture, plain data.
        weights: [`Raw` or `Shared`], in the model's order.

    Returns:
        (bytes, [what the header says of each], [bytes of each section])
    """
    encoded = [tensor.encode() for tensor in weights]
    described = [one for one, _ in encoded]
    data = container.pack({"config": config, "tensors": described}, [s for _, s in encoded])
    tensors.check_expansion(described, len(data))
    return data, described, [len(section) for _, section in encoded]


def read(data: bytes) -> tuple[dict[str, Any], list[Raw | Shared]]:
    """(config, weights) that `write` was given; nothing in `data` is trusted.

    Raises:
        CompressedFileError: for anything that is not such a file.
    """
    header, sections = container.unpack(data)
    known = header if isinstance(header, dict) else {}
    config, described = known.get("config"), known.get("tensors")
    if not isinstance(config, dict) or not isinstance(described, list):
        raise CompressedFileError("it is damaged: its header describes no model")
    if len(described) != len(sections):
        raise CompressedFileError(
            f"it is damaged: {len(sections)} sections for {len(described)} tensors"
        )
    tensors.check_expansion(described, len(data))
    pairs = zip(described, sections, strict=True)
    return config, [tensors.decode(one, section) for one, section in pairs]
