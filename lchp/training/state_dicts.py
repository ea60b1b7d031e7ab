"""State dicts in files that people give: what else such a file may be, and what may be wrong with its tensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lchp.store.tensors import reading_fault
from lchp.training.file_faults import FETCH, SAVE, file_fault


def read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file that ``torch.save`` wrote, by name, on the CPU, read without pickle.

    Raises:
        ValueError: it is no such file, is damaged or holds something else: what it is, and the remedy, for a sentence
            that begins with the file.
    """
    fault = file_fault(path)
    if fault:
        raise ValueError(fault)
    try:
        # torch warns of sparse and of quantized tensors, which are refused below.
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever an alien file makes of the reader, it is the file that is at fault
        if "EOF" in f"{type(error).__name__} {error}":
            raise ValueError(f"is cut short, {path.stat().st_size} bytes without an end: {FETCH}") from error
        raise ValueError(f"cannot be read as plain tensors ({reading_fault(error)}): {SAVE}") from error
    if fault := _content_fault(content):
        raise ValueError(fault)
    return dict(content)


def _content_fault(content: Any) -> str | None:
    if not isinstance(content, Mapping):
        return f"holds no state dict, a mapping of names to tensors, but {_kind(content)}: {SAVE}"
    if not content:
        return f"holds an empty state dict: {SAVE}"
    strange = [key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if not strange:
        return None
    inner = next(
        (key for key in strange if isinstance(content[key], Mapping) and not _content_fault(content[key])), None
    )
    if inner is not None:
        return (
            f"holds no state dict, but a checkpoint with one under the key {inner!r}: "
            f"save that alone, torch.load(FILE)[{inner!r}], with torch.save"
        )
    return (
        f"holds no state dict, a mapping of names to tensors: at {strange[0]!r} is {_kind(content[strange[0]])}: {SAVE}"
    )


def _kind(value: Any) -> str:
    return "a tensor" if isinstance(value, Tensor) else f"a value of type {type(value).__name__}"


def tensor_fault(value: Tensor, wanted: Tensor) -> str | None:
    """What of ``value`` cannot become ``wanted``, a dense real tensor of the same shape, and the remedy; None: nothing.

    Numbers of another precision become those of ``wanted``; integers stand for counts alone.
    """
    if value.layout != torch.strided:
        return f"is sparse ({value.layout}): save it after to_dense()"
    if value.is_meta:
        return "has no values (device meta): save the network after its weights were loaded"
    if value.is_quantized:
        return f"is quantized ({value.dtype}): save it after dequantize()"
    if value.is_complex() or (wanted.is_floating_point() and not value.is_floating_point()):
        return f"is of {value.dtype} where {wanted.dtype} is wanted: save the network's weights as they were trained"
    strange = int((~torch.isfinite(value.to(wanted.dtype) if wanted.is_floating_point() else value)).sum())
    if strange:
        return f"has {strange} of {value.numel()} values that are not finite: give weights of a training that held"
    return None
