"""How images reach the device that learns from them.

On CUDA they lie there as a whole where that takes at most a quarter of its memory, so that a step copies nothing from
the host; else threads read ahead into page-locked memory, from which a stream of its own copies beside the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lchp.data.loader import ImageSource
from lchp.training.cores import cores

HELD_SHARE = 0.25
"""Of the memory that this process may use on its device: the most that the images of all sources take there."""

CHUNK = 512
"""Images that are copied to the device at once: 0.4 GB at 512 pixels a side."""

Batch = tuple[Tensor, Tensor, Tensor]

_held: WeakKeyDictionary[ImageSource, dict[str, Tensor | None]] = WeakKeyDictionary()
"""The images of a source on a device, uint8 (n, 3, size, size); None where they are too many."""


def batches(
    source: ImageSource, order: Tensor, batch_size: int, *, drop_last: bool, workers: int, device: str
) -> Iterator[Batch]:
    """As :meth:`ImageSource.batches`, the same batches in the same order, on ``device``."""
    if torch.device(device).type != "cuda":
        return source.batches(order, batch_size, drop_last=drop_last, workers=workers)
    held = images_on(source, device)
    if held is None:
        return _copied(source, order, batch_size, drop_last, workers or _readers(source), device)
    return _picked(held, source.labels.to(device), order.to(device), batch_size, drop_last)


def _readers(source: ImageSource) -> int:
    """Threads that read ahead where a runtime names none: decoding wants many, copying does not."""
    return 2 if source.is_cached else min(8, cores())


def _copied(
    source: ImageSource, order: Tensor, batch_size: int, drop_last: bool, workers: int, device: str
) -> Iterator[Batch]:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    read = source.batches(order, batch_size, drop_last=drop_last, workers=workers, page_locked=True)
    for batch in read:
        with torch.cuda.stream(stream):
            images, labels, places = (part.to(device, non_blocking=True) for part in batch)
        training = torch.cuda.current_stream(device)
        training.wait_stream(stream)
        for part in (images, labels, places):
            # So that its memory is not given away while the training still reads it.
            part.record_stream(training)
        yield images, labels, places


def _picked(images: Tensor, labels: Tensor, order: Tensor, batch_size: int, drop_last: bool) -> Iterator[Batch]:
    """Batches of images, labels and an order that lie on one device; every one but the last knows its size."""
    whole = len(order) - len(order) % batch_size if drop_last else len(order)
    for start in range(0, whole, batch_size):
        places = order[start : min(start + batch_size, whole)]
        yield images[places], labels[places], places


def images_on(source: ImageSource, device: str) -> Tensor | None:
    """The images of a source on a device, copied there once for as long as the source is used: uint8 (n, 3, size,
    size). None where they are too many. ValueError as :meth:`ImageSource.open`.
    """
    known = _held.setdefault(source, {})
    if device not in known:
        room = HELD_SHARE * _memory(device) - _taken(device)
        known[device] = _uploaded(source, device) if source.is_cached and source.nbytes <= room else None
    return known[device]


def _memory(device: str) -> float:
    """Bytes that this process may use there."""
    index = torch.device(device).index
    index = torch.cuda.current_device() if index is None else index
    free, whole = torch.cuda.mem_get_info(index)
    return min(free + torch.cuda.memory_reserved(index), torch.cuda.get_per_process_memory_fraction(index) * whole)


def _taken(device: str) -> int:
    """Bytes that images take there."""
    tensors = (on.get(device) for on in _held.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _uploaded(source: ImageSource, device: str) -> Tensor:
    # What an evaluation asks for first, training takes, too.
    with torch.inference_mode(False):
        images = torch.empty(len(source), 3, source.size, source.size, dtype=torch.uint8, device=device)
        for start in range(0, len(source), CHUNK):
            places = torch.arange(start, min(start + CHUNK, len(source)))
            images[start : start + len(places)] = source.batch(places).to(device)
    return images
