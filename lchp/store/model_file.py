"""A model in one file: safetensors, whose metadata say what it answers with.

The format is a length (8 bytes, little-endian), a JSON header of that length with type, shape and place of every
tensor, and the tensors. No code is in it, and none is run to read it; any reader of safetensors finds the weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lchp.data.files import replacing
from lchp.store.model import Design, Model
from lchp.vocabulary import METHODS

if TYPE_CHECKING:
    from torch import Tensor

ENDING = ".safetensors"
_FORMAT = "lchp-model-1"
_LONGEST_HEADER = 100 << 20
"""Bytes; as safetensors has it."""
_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_NETWORKS = ("regressor", "classifier")
_VIEWS, _PRECISIONS = ("whole", "centre_crop"), ("fp32", "bf16")
_BOXES = "x1, y1, x2, y2 in pixels of the stored image, ends exclusive, clipped to it"
_METADATA = "__metadata__"
_REMEDY = "export it again with `lchp export`"


def write_file(model: Model, path: Path) -> None:
    """Write a model into one file, by way of a temporary name."""
    import torch

    tensors = {
        f"{network}.{name}": tensor.detach().cpu().contiguous()
        for network in _NETWORKS
        for name, tensor in sorted(getattr(model, network).items())
    }
    blobs = {name: tensor.reshape(-1).view(torch.uint8).numpy().tobytes() for name, tensor in tensors.items()}
    words = {f"torch.{torch_name}": word for word, torch_name in _TYPES.items()}
    listed, place = {}, 0
    for name, blob in blobs.items():
        tensor = tensors[name]
        listed[name] = {
            "dtype": words[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [place, place + len(blob)]
        }  # fmt: skip
        place += len(blob)
    about = {
        "format": _FORMAT,
        "method": model.method,
        "boxes": _BOXES,
        "classes": None if model.classes is None else list(model.classes),
        "view": {"resize": model.design.resize, "crop": model.design.crop, "evaluation": model.design.evaluation},
        "design": asdict(model.design),
        "origin": dict(model.origin),
    }
    text = json.dumps(about, ensure_ascii=False, sort_keys=True)
    metadata = {"format": "pt", "lchp": text, "sha256": _digest(text, listed, blobs.values())}
    header = json.dumps({_METADATA: metadata, **listed}, ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    with replacing(path) as part, part.open("wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for blob in blobs.values():
            file.write(blob)


def read_file(path: Path) -> Model:
    """The model in a file.

    Raises:
        ValueError: it is none that :func:`write_file` wrote, or is cut or changed; names it and the remedy.
        OSError: it cannot be read.
    """
    header, data = _parts(path)
    metadata = header.pop(_METADATA, None)
    text = metadata.get("lchp") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ValueError(f"{path}: is a safetensors file, and no model of lchp: {_REMEDY}")
    try:
        blobs = dict(_blobs(header, data))
        whole = _digest(text, header, blobs.values()) == metadata.get("sha256")
        about = json.loads(text)
        if whole and about["format"] != _FORMAT:
            raise ValueError(f"{path}: is a model of the format {about['format']!r}: use the version that wrote it")
        model = _model(about, {name: _tensor(header[name], blob) for name, blob in blobs.items()}) if whole else None
    except (KeyError, TypeError, AttributeError, IndexError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: does not say what a model of lchp says ({error!r}): {_REMEDY}") from error
    if model is None:
        raise ValueError(f"{path}: is not what was written (its SHA-256 differs): {_REMEDY}")
    return model


def _parts(path: Path) -> tuple[dict[str, Any], memoryview]:
    """The header of a file, and what follows it. ValueError where it is no safetensors file."""
    data = memoryview(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    fault = "is empty" if not data else "is no model that `lchp export` has written"
    if len(data) < 10 or length > _LONGEST_HEADER or bytes(data[8:9]) != b"{":
        raise ValueError(f"{path}: {fault}: {_REMEDY}, or name a run or the folder of a trial")
    if len(data) < 8 + length:
        raise ValueError(f"{path}: is cut, {len(data)} bytes of more than {8 + length}: {_REMEDY}")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {fault} ({error}): {_REMEDY}") from error
    return header, data[8 + length :]


def _blobs(header: Mapping[str, Any], data: memoryview) -> Iterator[tuple[str, memoryview]]:
    """The bytes of every tensor; an end that the file does not have gives fewer, which the digest tells."""
    for name, one in header.items():
        start, end = one["data_offsets"]
        yield name, data[start:end]


def _digest(text: str, listed: Mapping[str, Any], blobs: Any) -> str:
    """One sha256 over all that a file says."""
    digest = hashlib.sha256(f"{text}\n{json.dumps(listed, sort_keys=True)}\n".encode())
    for blob in blobs:
        digest.update(blob)
    return digest.hexdigest()


def _tensor(one: Mapping[str, Any], blob: memoryview) -> Tensor:
    import torch

    kind: torch.dtype = getattr(torch, _TYPES[one["dtype"]])
    shape = one["shape"]
    if len(blob) != prod(shape) * kind.itemsize:
        raise TypeError(f"{len(blob)} bytes for {shape} of {one['dtype']}")
    # A copy of its own: what is read at once would otherwise be kept whole, and may not be written.
    return torch.frombuffer(bytearray(blob), dtype=kind).reshape(shape) if blob else torch.empty(shape, dtype=kind)


def _model(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Model:
    design, classes = Design(**about["design"]), about["classes"]
    sides = (design.resize, design.crop, design.batch_size, design.cpu_threads)
    if not all(type(side) is int and 0 < side <= 1 << 14 for side in sides):
        raise TypeError(f"sizes {sides}")
    if design.crop > design.resize or design.evaluation not in _VIEWS or design.precision not in _PRECISIONS:
        raise TypeError(f"{design.evaluation} view of {design.crop} of {design.resize} pixels in {design.precision}")
    if about["method"] not in METHODS:
        raise TypeError(f"method {about['method']!r}")
    if classes is not None and not all(isinstance(name, str) for name in classes):
        raise TypeError("classes")
    states = {
        network: {
            name.removeprefix(f"{network}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{network}.")
        }
        for network in _NETWORKS
    }
    names = None if classes is None else tuple(classes)
    return Model(design, names, states["regressor"], states["classifier"], about["method"], about["origin"])
