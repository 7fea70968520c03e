"""Compressed .ptqx files: smaller, the same model, and no harm from hostile ones."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import networks
import ptqx
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import IntegerModel, load, quantize, save
from ptqx.graph.compression import MAX_EXPANSION, compressed, expanded
from ptqx.graph.io import to_bytes

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    torch.manual_seed(0)
    return quantize(networks.with_statistics(networks.Residual()), [X])


@pytest.mark.parametrize("recipe", ["int8", "int4", "ternary"])
def test_a_compressed_file_is_smaller_and_loads_as_it_is(recipe: str, tmp_path: Path) -> None:
    model = quantize(networks.with_statistics(networks.Residual()), [X], recipe)
    save(model, tmp_path / "m.ptqx", {"model": "residual"})
    save(model, tmp_path / "m.ptqx.gz", {"model": "residual"})
    assert (tmp_path / "m.ptqx.gz").stat().st_size < 0.9 * (tmp_path / "m.ptqx").stat().st_size
    loaded = load(tmp_path / "m.ptqx.gz")
    assert to_bytes(loaded) == to_bytes(load(tmp_path / "m.ptqx"))
    assert torch.equal(ptqx.compile(loaded, X)(X), model(X))


def test_gunzip_gives_the_plain_file(model: IntegerModel, tmp_path: Path) -> None:
    save(model, tmp_path / "m.ptqx.gz")
    assert gzip.decompress((tmp_path / "m.ptqx.gz").read_bytes()) == to_bytes(model)
    (tmp_path / "other.gz").write_bytes(gzip.compress(to_bytes(model)))  # another program's
    assert torch.equal(load(tmp_path / "other.gz")(X), model(X))


def test_the_name_of_a_compressed_file_does_not_matter(model: IntegerModel, tmp_path: Path) -> None:
    (tmp_path / "m.ptqx").write_bytes(compressed(to_bytes(model)))
    assert torch.equal(load(tmp_path / "m.ptqx")(X), model(X))


def test_zeros_take_nearly_no_space(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(32, 128, 3), torch.nn.Flatten(), torch.nn.Linear(128, 10))
    sizes = {}
    for name in ("int8", "int8+sparse:share=0.9"):
        content = to_bytes(quantize(net, [torch.randn(4, 32, 3, 3)], name))
        sizes[name] = len(compressed(content))
        assert expanded(compressed(content)) == content
    assert sizes["int8+sparse:share=0.9"] < 0.35 * sizes["int8"]


def test_a_bomb_is_refused_before_it_expands(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(2**24))
    assert len(bomb) < 2**24 / MAX_EXPANSION
    (tmp_path / "m.ptqx.gz").write_bytes(bomb)
    with pytest.raises(PtqxError, match=r"m.ptqx.gz: it would expand to more than 32 times its size"):
        load(tmp_path / "m.ptqx.gz")


@pytest.mark.parametrize("size", [3, 9, 10, 18, 100, -9, -8, -1])
def test_a_truncated_file_is_one_clear_error(model: IntegerModel, size: int) -> None:
    with pytest.raises(PtqxError, match=r"truncated|expand to more"):
        expanded(compressed(to_bytes(model))[:size])


def test_every_altered_byte_is_noticed(model: IntegerModel, tmp_path: Path) -> None:
    content = compressed(to_bytes(model))
    for position in [*range(3, 30), *range(30, len(content), len(content) // 97), *range(-8, 0)]:
        altered = bytearray(content)
        altered[position] ^= 0x55
        (tmp_path / "m.gz").write_bytes(altered)
        try:
            loaded = load(tmp_path / "m.gz")
        except PtqxError:
            continue
        assert to_bytes(loaded) == to_bytes(model), position  # gzip's header has bytes without meaning


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content + b"more", "4 bytes after the end of the gzip data"),
        (lambda content: content + content, "bytes after the end"),
        (lambda content: content[:3] + bytes([0xE0]) + content[4:], "no valid gzip file"),
        (lambda content: compressed(content), "no .ptqx file|header"),
        (lambda content: compressed(zlib.decompress(content, 31)[:50]), "header claims"),
    ],
)
def test_hostile_files_are_one_clear_error(model, tmp_path: Path, change, message: str) -> None:
    (tmp_path / "m.gz").write_bytes(change(compressed(to_bytes(model))))
    with pytest.raises(PtqxError, match=message):
        load(tmp_path / "m.gz")
