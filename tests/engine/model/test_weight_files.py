"""Every kind of file that people have, and what becomes of it."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import WeightsError
from engine.model.weight_files import open_weights, save_weights

TENSORS = {"a": torch.arange(12_000.0).view(120, 100), "b.c": torch.ones(3, dtype=torch.bfloat16)}


def save(path: Path, content: object) -> Path:
    if path.suffix == ".safetensors":
        assert isinstance(content, dict)
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def sharded(folder: Path) -> Path:
    for key in TENSORS:
        save_file({key: TENSORS[key]}, folder / f"{key}.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {key: f"{key}.safetensors" for key in TENSORS}}))
    return index


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == TENSORS.keys() and all(torch.equal(found[key], TENSORS[key]) for key in found)


@pytest.mark.parametrize("file", ["w.safetensors", "w.pt", "misnamed.txt"])
def test_a_file_gives_its_tensors_as_they_are(tmp_path: Path, file: str) -> None:
    opened = open_weights(save(tmp_path / file, TENSORS))
    assert same(opened.tensors) and opened.shapes == {"a": (120, 100), "b.c": (3,)}
    assert opened.size_bytes == (tmp_path / file).stat().st_size


def test_nested_dictionaries_are_flat_and_what_is_no_tensor_is_passed_over(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pt", {"a": TENSORS["a"], "b": {"c": TENSORS["b.c"], "step": 7}, "name": "x"})
    assert same(open_weights(path).tensors)


def test_saving_keeps_the_metadata_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    path = tmp_path / "new" / "w.safetensors"
    for _ in range(2):
        save_weights(path, TENSORS, {"key": "value"})
    opened = open_weights(path)
    assert same(opened.tensors) and opened.metadata == {"key": "value"}
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot be written"):
        save_weights(tmp_path / "file" / "w.safetensors", TENSORS, {})


def test_shards_are_one_file(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    opened = open_weights(index)
    assert same(opened.tensors) and len(opened.files) == 2
    assert open_weights(tmp_path).sha256() == opened.sha256()


def test_an_absent_shard_is_an_error(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"names 2 files, of which 1 are not beside it: a\.safetensors"):
        open_weights(index)


def test_a_tensor_that_its_shard_has_not_is_an_error(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    save_file({"x": TENSORS["a"]}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"names a, which is not in a\.safetensors"):
        open_weights(index)


def test_another_json_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "w.index.json").write_text("[1, 2]")
    with pytest.raises(WeightsError, match="expected an index of shards"):
        open_weights(tmp_path / "w.index.json")


def test_a_folder_has_to_hold_one_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="found none"):
        open_weights(tmp_path)
    save(tmp_path / "a.safetensors", TENSORS)
    save(tmp_path / "b.pt", TENSORS)
    with pytest.raises(WeightsError, match=r"found a\.safetensors, b\.pt; name one"):
        open_weights(tmp_path)


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.01])
@pytest.mark.parametrize("file", ["w.safetensors", "w.pt"])
def test_a_truncated_file_is_refused(tmp_path: Path, file: str, kept: float) -> None:
    path = save(tmp_path / file, TENSORS)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(WeightsError, match=r"w\.\w+ \(\d+ bytes\) is cut off.*fetch it again"):
        open_weights(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").touch()
    with pytest.raises(WeightsError, match=r"\(0 bytes\) is neither safetensors nor a .pt file"):
        open_weights(tmp_path / "w.safetensors")


class _RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    path = save(tmp_path / "w.pt", {**TENSORS, "trap": _RunsCode(trap)})
    with pytest.raises(WeightsError, match=r"Python objects besides tensors \(\w+\.mkdir\).*run code"):
        open_weights(path)
    assert not trap.exists()


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pt", torch.nn.Linear(2, 2))
    with pytest.raises(
        WeightsError, match=r"Python objects besides tensors \(torch\.nn\.modules\.linear\.Linear\)"
    ):
        open_weights(path)


def test_a_bare_pickle_is_refused_and_its_code_does_not_run(tmp_path: Path) -> None:
    trap, path = tmp_path / "ran", tmp_path / "w.ckpt"
    path.write_bytes(pickle.dumps(_RunsCode(trap)))
    with pytest.raises(WeightsError, match="a pickle outside torch's zip format"):
        open_weights(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "a web page"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        (b"hello, this is a text of some length", "neither safetensors nor a .pt file of torch's"),
    ],
)
def test_what_is_no_file_of_tensors_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(expected)):
        open_weights(path)


@pytest.mark.parametrize("mark", [b"\x80", b"PK", b"<", b"GGUF"[:1]])
def test_safetensors_may_begin_like_another_kind_of_file(tmp_path: Path, mark: bytes) -> None:
    """Its first bytes are its header's length."""
    path = tmp_path / "w.safetensors"
    wanted = int.from_bytes(mark, "little")
    step = 256 ** len(mark)
    save_file(TENSORS, path, {"pad": ""})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].ljust(length + (wanted - length) % step)
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    assert path.read_bytes().startswith(mark) and same(open_weights(path).tensors)
