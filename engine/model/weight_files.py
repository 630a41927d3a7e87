"""Files of tensors: safetensors, whole or sharded, and torch's zip format without any code in it.

Every tensor is mapped from its file and read when it is used. What a file is, its content says and not
its name. Knows nothing of models or of what the tensors are called.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import WeightsError

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
INDEX_SUFFIX = ".index.json"
ZIP = b"PK\x03\x04"
FIRST_BYTES = 64
HASH_STEP_BYTES = 1 << 20
# What torch's reader of pickles without code raises on one with code, or on a garbled one.
GARBLED = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    EOFError,
    struct.error,
)
LONGEST_HEADER_BYTES = 100_000_000  # safetensors' own limit

IN_PLACE_OF_WEIGHTS = (
    (b"version https://git-lfs", "a Git LFS pointer, which stands for a file that was never fetched"),
    (b"GGUF", "a GGUF file"),
    (b"<", "a web page, which is what a failed download often leaves"),
)


@dataclass(frozen=True, slots=True)
class WeightFile:
    """An open file, or set of shards. Keys of nested dictionaries are joined by dots."""

    path: Path
    files: tuple[Path, ...]
    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tuple(tensor.shape) for key, tensor in self.tensors.items()}

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    def sha256(self) -> str:
        """Of all the files' content, in the order of their names."""
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as opened:
                while block := opened.read(HASH_STEP_BYTES):
                    digest.update(block)
        return digest.hexdigest()


def open_weights(path: Path) -> WeightFile:
    """``path`` is a file, an index of shards, or a folder with one of either in it."""
    if path.is_dir():
        path = _only_one_in(path)
    if path.name.endswith(INDEX_SUFFIX):
        return _open_shards(path)
    tensors, metadata = _open_one(path)
    return WeightFile(path, (path,), tensors, metadata)


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """As safetensors. The file appears when it is complete, and replaces an older one."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata)
        partial.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise WeightsError(f"{path} cannot be written: {error}") from None


def _only_one_in(folder: Path) -> Path:
    found = sorted(folder.glob("*" + INDEX_SUFFIX)) or sorted(
        file for file in folder.iterdir() if file.suffix in SUFFIXES
    )
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise WeightsError(f"{folder}: expected one file of weights in this folder, found {names}; name one")
    return found[0]


def _open_shards(index: Path) -> WeightFile:
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(places.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError(f'{index}: expected an index of shards with a "weight_map"') from None
    files = tuple(index.parent / Path(name).name for name in names)
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise WeightsError(
            f"{index} names {len(files)} files, of which {len(absent)} are not beside it: "
            f"{', '.join(absent[:3])}; fetch them too"
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= _open_one(file)[0]
    absent = [key for key in places if key not in tensors]
    if absent:
        raise WeightsError(
            f"{index} names {absent[0]}, which is not in {places[absent[0]]}; fetch both again"
        )
    return WeightFile(index, files, tensors, {})


def _open_one(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with path.open("rb") as file:
            start = file.read(FIRST_BYTES)
    except OSError as error:
        raise WeightsError(f"{path} cannot be opened: {error.strerror}") from None
    if start.startswith(ZIP):
        return _open_torch(path), {}
    header_bytes = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header_bytes <= LONGEST_HEADER_BYTES:
        return _open_safetensors(path)
    if start[:1] == b"\x80":
        raise WeightsError(
            f"{path} is a pickle outside torch's zip format. Opening such a file may run code that is in it, "
            "so RealCam does not; if you trust it, open it with torch and save it as safetensors"
        )
    for mark, what in IN_PLACE_OF_WEIGHTS:
        if start.lstrip().startswith(mark):
            raise WeightsError(f"{path} is {what}; expected safetensors or a .pt file of torch's")
    raise WeightsError(
        f"{path} ({path.stat().st_size} bytes) is neither safetensors nor a .pt file of torch's; "
        "if it should be, fetch it again"
    )


def _open_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{path} ({path.stat().st_size} bytes) is cut off or damaged: {error}; fetch it again"
        ) from None


def _open_torch(path: Path) -> dict[str, Tensor]:
    if not zipfile.is_zipfile(path):
        raise WeightsError(
            f"{path} ({path.stat().st_size} bytes) is cut off: the directory at its end is not there; "
            "fetch it again"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except GARBLED as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise WeightsError(
                f"{path} holds Python objects besides tensors ({named.group(1)}). Opening such a file may "
                "run code that is in it, so RealCam does not; if you trust it, open it with torch and save "
                "its tensors as safetensors"
            ) from None
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path} is damaged, or no file of torch's: {reason}") from None
    return dict(_flat(content, ""))


def _flat(content: object, at: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield at, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _flat(value, f"{at}.{key}" if at else str(key))
