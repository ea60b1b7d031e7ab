"""What a file of weights is that ``torch.load`` cannot read, or reads without seeing its damage; without torch."""

from __future__ import annotations

import zipfile
from pathlib import Path

SAVE = "save the state_dict() of a torchvision network with torch.save"
FETCH = "fetch it again"


def file_fault(path: Path) -> str | None:
    """What is wrong with a file that exists, and the remedy, for a sentence that begins with it; None: nothing seen."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return f"is empty, 0 bytes: {FETCH}"
    if head.startswith(b"PK\x03\x04"):
        return _archive_fault(path)
    if head.startswith(b"\x1f\x8b"):
        return "is packed by gzip: unpack it"
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "is a safetensors file: read it with safetensors.torch.load_file, and save what that gives by torch.save"
    text = head.decode("utf-8", "replace")
    if all(letter.isprintable() or letter in "\t\r\n" for letter in text) and "\ufffd" not in text[:-1]:
        line = text.strip().partition("\n")[0].strip()[:40]
        return f"is text that begins {line!r}, perhaps a page or a pointer instead of the file: {FETCH}"
    return None


def _archive_fault(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            # torch.load compares no checksums: a byte that is another would be another weight.
            damaged = archive.testzip()
    except Exception:  # a damaged table of contents may lead the reader anywhere
        return f"is cut short or damaged, {path.stat().st_size} bytes without the end of an archive: {FETCH}"
    if damaged:
        return f"is damaged (the checksum of its record {damaged!r} differs): {FETCH}, or save it again with torch.save"
    if not any(name.endswith("/data.pkl") for name in names):
        return f"is a zip archive, but not one of torch.save: {SAVE}"
    if any(name.endswith("/constants.pkl") for name in names):
        return f"is a TorchScript network: {SAVE}"
    return None
