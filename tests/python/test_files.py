"""Atomic writing, and reading of checkpoints that may be damaged or hostile."""

from __future__ import annotations

import json
import resource
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.files import LEAST_PAGEABLE, atomic_write, pageable, read_tensors, write_tensors, write_text

TENSORS = {"weight": torch.arange(12.0).view(3, 4), "count": torch.tensor(7)}


def assert_same(read: dict[str, torch.Tensor]) -> None:
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(read[name], tensor, rtol=0, atol=0)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_safetensors_round_trip_with_metadata(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m.safetensors", TENSORS, {"model": "cnn"})
    tensors, metadata = read_tensors(tmp_path / "m.safetensors")
    assert_same(tensors)
    assert metadata == {"model": "cnn"}
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip-format", "legacy-format"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_pickle_wrappers_and_prefixes(
    tmp_path: Path, suffix: str, zipped: bool, wrapper: str | None, prefix: str
) -> None:
    named = {prefix + name: tensor for name, tensor in TENSORS.items()}
    content = named if wrapper is None else {wrapper: named, "best_prec1": 91.7, "epoch": 3}
    torch.save(content, tmp_path / f"m{suffix}", _use_new_zipfile_serialization=zipped)
    assert_same(read_tensors(tmp_path / f"m{suffix}")[0])


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "log.txt"
    write_text(target, "old")
    with pytest.raises(ZeroDivisionError), atomic_write(target) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["log.txt"]


@pytest.mark.parametrize("kind", ["safetensors", "torch", "text"])
def test_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "m.safetensors"
    write_text(target, "old")
    big = {"weight": torch.zeros(1_000_000)}
    with (
        file_size_limit(100_000),
        pytest.raises(PtqxError, match=r"can't write .*m\.safetensors.*nothing was changed"),
    ):
        if kind == "safetensors":
            write_tensors(target, big)
        elif kind == "torch":
            with atomic_write(target) as partial:
                torch.save(big, partial)
        else:
            write_text(target, "x" * 1_000_000)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PtqxError, match="can't write"):
        write_text(tmp_path / "file" / "log.txt", "text")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".th"])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_checkpoint_is_an_error(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"m{suffix}"
    tensors = {"weight": torch.randn(64, 64)}
    if suffix == ".safetensors":
        write_tensors(path, tensors)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=suffix == ".pt")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(PtqxError, match=path.name):
        read_tensors(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".th"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"hello" * 50, b"PK\x03\x04" + b"\xff" * 90, b"\x80\x02" * 50]
)
def test_garbage_is_an_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    with pytest.raises(PtqxError, match=path.name):
        read_tensors(path)


class RunsCode:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip-format", "legacy-format"])
def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    victim = tmp_path / "victim"
    torch.save({"weight": RunsCode(victim)}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(PtqxError, match="can't be loaded safely"):
        read_tensors(tmp_path / "m.pt")
    assert not victim.exists()


@pytest.mark.parametrize("content", [{"epoch": 3}, {}, [TENSORS], 5, {"state_dict": {"a": 1}}])
def test_checkpoint_without_tensors_is_an_error(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(PtqxError, match="no state_dict"):
        read_tensors(tmp_path / "m.pt")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip-format", "legacy-format"])
def test_tensor_larger_than_its_file_is_refused(tmp_path: Path, zipped: bool) -> None:
    huge = torch.zeros(1).expand(1 << 40)
    torch.save({"weight": huge}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(PtqxError, match="claim"):
        read_tensors(tmp_path / "m.pt")


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1_000_000)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    with pytest.raises(PtqxError, match="claim more bytes"):
        read_tensors(tmp_path / "bomb.pt")


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 50]}},
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [1 << 33, 1 << 33], "data_offsets": [0, 16]}},
        {"w": 3},
    ],
    ids=[
        "huge-shape",
        "offset-outside",
        "offsets-reversed",
        "negative-shape",
        "dtype",
        "overflow",
        "not-a-tensor",
    ],
)
def test_hostile_safetensors_header_is_an_error(tmp_path: Path, header: dict[str, object]) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 16)
    with pytest.raises(PtqxError, match="not a readable safetensors file"):
        read_tensors(tmp_path / "m.safetensors")


def test_safetensors_header_length_beyond_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    with pytest.raises(PtqxError, match="not a readable safetensors file"):
        read_tensors(tmp_path / "m.safetensors")


def test_missing_file_and_unknown_suffix_are_named(tmp_path: Path) -> None:
    with pytest.raises(PtqxError, match="no such checkpoint file"):
        read_tensors(tmp_path / "m.pt")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(PtqxError, match=r"expected \.safetensors.*'\.onnx'"):
        read_tensors(tmp_path / "m.onnx")


@pytest.mark.parametrize("size", [1, LEAST_PAGEABLE - 1, LEAST_PAGEABLE, LEAST_PAGEABLE + 4097])
def test_pageable_bytes_are_those_given(size: int) -> None:
    content = bytes(i * 7 % 251 for i in range(size))
    tensor = pageable(content)
    assert tensor.dtype == torch.uint8
    assert tensor.numpy().tobytes() == content
    other = pageable(content)
    tensor += 1
    assert other.numpy().tobytes() == content, "each has its own"


def test_pageable_bytes_lie_in_memory_where_no_file_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(LEAST_PAGEABLE)
    with file_size_limit(1000):
        assert pageable(content).numpy().tobytes() == content
    monkeypatch.setattr("tempfile.tempdir", "/no such folder")
    assert pageable(content).numpy().tobytes() == content
