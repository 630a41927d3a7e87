"""Weights by name: importing published ones, finding, describing and loading them.

An import is one safetensors file with our names and, in its metadata, the config that it fits. Knows
no file formats (``weight_files``), no foreign names (``adapters``) and no sizes (``fitting``).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

from engine.errors import WeightsError
from engine.model import adapters
from engine.model.adapters import Layout
from engine.model.codec import Codec
from engine.model.config import CameraName, ModelConfig
from engine.model.dit import PairTransformer
from engine.model.fitting import (
    Config,
    Shape,
    codec_on_meta,
    config_metadata,
    fit,
    shapes_of,
    transformer_on_meta,
)
from engine.model.weight_files import INDEX_SUFFIX, SUFFIXES, WeightFile, open_weights, save_weights

FORMAT = "1"
BUNDLED_FOLDER = Path(__file__).resolve().parents[1] / "weights"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
FLOATS = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})
SHOWN = 3  # names in an error


def user_folder() -> Path:
    return Path(platformdirs.user_data_dir("realcam", appauthor=False)) / "weights"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A file that was recognised and is complete.

    ``tensors`` have our names and are mapped from the file; ``new`` are tensors of ours that it has not
    (they begin as zeros, which add nothing); ``left`` are the file's keys without a place in ours.
    """

    file: WeightFile
    layout: Layout
    size: str
    config: Config
    tensors: dict[str, Tensor]
    new: dict[str, Shape]
    left: tuple[str, ...]

    @property
    def camera(self) -> CameraName | None:
        """How a transformer is told the camera's pose."""
        return self.config.camera if isinstance(self.config, ModelConfig) else None

    @property
    def parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.tensors.values())

    @property
    def dtypes(self) -> dict[str, int]:
        """How many tensors there are of each."""
        return Counter(str(tensor.dtype).removeprefix("torch.") for tensor in self.tensors.values())

    def all_tensors(
        self, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> dict[str, Tensor]:
        """The new ones too. What already is as it should be stays mapped from the file."""
        common = dtype or next(iter(self.tensors.values())).dtype
        tensors = {name: tensor.to(device, dtype) for name, tensor in self.tensors.items()}
        zeros = {name: torch.zeros(shape, device=device, dtype=common) for name, shape in self.new.items()}
        return tensors | zeros


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What an import did. ``new`` and ``left`` are as in :class:`Checkpoint`."""

    name: str
    path: Path
    layout: str
    size: str
    matched: int
    new: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file of weights in a folder of RealCam's; ``problem`` says why it cannot be used, if so."""

    name: str
    path: Path
    size_bytes: int
    checkpoint: Checkpoint | None
    problem: str | None


def import_weights(path: Path | str, as_name: str | None = None) -> Report:
    """Writes the weights into the user's folder under our names; ``as_name`` is how they are called."""
    checkpoint = read_weights(Path(path))
    name = as_name or _default_name(checkpoint)
    if not NAME.fullmatch(name):
        raise WeightsError(f"a name of weights is of a-z, 0-9 and . _ -, as my-student, found {name!r}")
    target = user_folder() / f"{name}.safetensors"
    digest = checkpoint.file.sha256()
    if target.exists() and open_weights(target).metadata.get("source_sha256") != digest:
        raise WeightsError(f"there are other weights called {name} in {target}: choose a name with --as")
    save_weights(target, checkpoint.all_tensors(), _metadata(checkpoint, digest))
    return Report(
        name=name,
        path=target,
        layout=checkpoint.layout.title,
        size=checkpoint.size,
        matched=len(checkpoint.tensors),
        new=tuple(checkpoint.new),
        left=checkpoint.left,
    )


def list_weights() -> list[Entry]:
    """The user's, then the bundled ones whose names the user has not taken."""
    entries: dict[str, Entry] = {}
    for folder in (user_folder(), BUNDLED_FOLDER):
        for path in sorted(folder.glob("*.safetensors")):
            if path.stem not in entries:
                entries[path.stem] = _entry(path)
    return list(entries.values())


def read_weights(path_or_name: Path | str) -> Checkpoint:
    """Opens, recognises and checks; reads no tensor's numbers."""
    file = open_weights(find_weights(path_or_name))
    try:
        return _recognised(file)
    except WeightsError as error:
        raise WeightsError(f"{file.path}: {error}{_other_shards(file)}") from None


def load_transformer(
    path_or_name: Path | str, device: torch.device | str, dtype: torch.dtype
) -> tuple[PairTransformer, ModelConfig]:
    checkpoint = read_weights(path_or_name)
    if not isinstance(checkpoint.config, ModelConfig):
        raise WeightsError(f"{checkpoint.file.path}: expected a transformer, found {checkpoint.layout.title}")
    model = transformer_on_meta(checkpoint.config)
    model.load_state_dict(checkpoint.all_tensors(device, dtype), assign=True)
    return model, checkpoint.config


def load_codec(path_or_name: Path | str, device: torch.device | str, dtype: torch.dtype) -> Codec:
    checkpoint = read_weights(path_or_name)
    if isinstance(checkpoint.config, ModelConfig):
        raise WeightsError(f"{checkpoint.file.path}: expected a codec, found {checkpoint.layout.title}")
    codec = codec_on_meta(checkpoint.config)
    codec.load_state_dict(checkpoint.all_tensors(device, dtype), assign=True)
    return codec


def find_weights(path_or_name: Path | str) -> Path:
    """A string without a folder or a known ending is a name, sought in RealCam's folders first."""
    path = Path(path_or_name)
    if isinstance(path_or_name, str) and NAME.fullmatch(path_or_name) and path.suffix not in SUFFIXES:
        for folder in (user_folder(), BUNDLED_FOLDER):
            if (named := folder / f"{path_or_name}.safetensors").is_file():
                return named
    if path.exists():
        return path
    names = ", ".join(entry.name for entry in list_weights()) or "none yet; import some with weights import"
    raise WeightsError(
        f"there are no weights {str(path_or_name)!r}, neither a file nor a name; names: {names}"
    )


def _metadata(checkpoint: Checkpoint, digest: str) -> dict[str, str]:
    """Weights that were RealCam's already keep what they say of where they come from."""
    known = checkpoint.file.metadata if checkpoint.layout.name == "realcam" else {}
    metadata = {
        "layout": checkpoint.layout.name,
        "source": checkpoint.file.path.name,
        "new": json.dumps(sorted(checkpoint.new)),
        **known,
        "realcam_format": FORMAT,
        "part": checkpoint.layout.part,
        "size": checkpoint.size,
        "source_sha256": digest,
    }
    return metadata | (
        config_metadata(checkpoint.config) if isinstance(checkpoint.config, ModelConfig) else {}
    )


def _recognised(file: WeightFile) -> Checkpoint:
    found = adapters.recognise(file.tensors)
    if found is None:
        raise WeightsError(
            f"it looks like {adapters.looks_like(file.shapes)}; expected one of: {adapters.expected()}"
        )
    tensors = {name: file.tensors[key] for name, key in found.keys.items()}
    size, config = fit(found.layout.part, tensors, file.metadata)
    ours = shapes_of(config)
    missing = {name: shape for name, shape in ours.items() if name not in tensors}
    additions = adapters.OUR_ADDITIONS if found.layout.name != "realcam" else ()
    new = {name: shape for name, shape in missing.items() if name.startswith(additions)}
    matched = {name: tensor for name, tensor in tensors.items() if name in ours}
    _check(matched, ours, [name for name in missing if name not in new])
    return Checkpoint(
        file=file,
        layout=found.layout,
        size=size,
        config=config,
        tensors=matched,
        new=new,
        left=(*found.left, *(key for name, key in found.keys.items() if name not in ours)),
    )


def _check(tensors: Mapping[str, Tensor], ours: Mapping[str, Shape], missing: list[str]) -> None:
    if missing:
        raise WeightsError(f"{len(missing)} of {len(ours)} tensors are missing: {_some(missing)}")
    wrong = [
        f"{name}: expected {_size(ours[name])}, found {_size(tensor.shape)}"
        for name, tensor in tensors.items()
        if tuple(tensor.shape) != ours[name]
    ]
    if wrong:
        raise WeightsError(f"{len(wrong)} tensors have another shape than the model's: {_some(wrong)}")
    quantised = [
        f"{name} is {tensor.dtype}" for name, tensor in tensors.items() if tensor.dtype not in FLOATS
    ]
    if quantised:
        raise WeightsError(
            f"{len(quantised)} tensors are quantised: {_some(quantised)}; "
            "expected float32, float16 or bfloat16"
        )


def _default_name(checkpoint: Checkpoint) -> str:
    origin, part = checkpoint.layout.name, checkpoint.layout.part
    if part != "transformer":
        return f"{part}-{checkpoint.size}"
    return f"{checkpoint.size}-{origin}" if origin in ("self-forcing", "recammaster") else checkpoint.size


def _entry(path: Path) -> Entry:
    checkpoint, problem = None, None
    try:
        checkpoint = read_weights(path)
    except WeightsError as error:
        problem = str(error)
    return Entry(
        name=path.stem,
        path=path,
        size_bytes=path.stat().st_size,
        checkpoint=checkpoint,
        problem=problem,
    )


def _other_shards(file: WeightFile) -> str:
    index = next(file.path.parent.glob("*" + INDEX_SUFFIX), None)
    if index is None or index == file.path:
        return ""
    return f". If this is one shard of several, give the index instead: {index}"


def _some(texts: list[str]) -> str:
    return "; ".join(texts[:SHOWN]) + (" …" if len(texts) > SHOWN else "")


def _size(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "a single number"
