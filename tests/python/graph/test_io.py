from __future__ import annotations

import copy
import json
import struct
from pathlib import Path

import networks
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import IntegerModel, load, quantize, save
from ptqx.graph.io import from_bytes, to_bytes
from safetensors.torch import load_file

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    torch.manual_seed(0)
    return quantize(networks.with_statistics(networks.Residual()), [X])


@pytest.mark.parametrize(
    "recipe", ["int8", "int4", "w2a4", "int8-dynamic", "int8-weight-only", "int4-weight-only"]
)
def test_file_round_trip_is_equal(recipe: str, tmp_path: Path) -> None:
    model = quantize(networks.with_statistics(networks.Residual()), [X], recipe)
    save(model, tmp_path / "m.ptqx", info={"model": "residual"})
    loaded = load(tmp_path / "m.ptqx")
    assert torch.equal(loaded(X), model(X))
    assert loaded.graph.info == {"model": "residual"}
    assert to_bytes(loaded) == to_bytes(model)
    assert (
        set(load_file(tmp_path / "m.ptqx")) == model.graph.tensor_names()
    )  # any safetensors reader reads it


def test_four_bit_file_is_smaller_and_no_temporary_file_stays(tmp_path: Path) -> None:
    net = torch.nn.Sequential(*[torch.nn.Conv2d(64, 64, 3) for _ in range(3)])
    x = torch.randn(2, 64, 8, 8)
    sizes = {}
    for name in ("int8", "int4"):
        save(quantize(net, [x], name), tmp_path / f"{name}.ptqx")
        sizes[name] = (tmp_path / f"{name}.ptqx").stat().st_size
    weights = 64 * 64 * 9
    assert sizes["int8"] - sizes["int4"] > 0.45 * weights
    assert sorted(p.name for p in tmp_path.iterdir()) == ["int4.ptqx", "int8.ptqx"]


def test_save_of_a_float_part_names_it(tmp_path: Path) -> None:
    model = quantize(networks.PartlyUntraceable(), [X])
    with pytest.raises(PtqxError, match="middle stayed a Python module"):
        save(model, tmp_path / "m.ptqx")
    assert list(tmp_path.iterdir()) == []


def test_save_to_a_full_disk_keeps_the_old_file(model: IntegerModel, tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("the machine has no /dev/full")
    path = tmp_path / "m.ptqx"
    save(model, path)
    old = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", lambda self, data: full.open("wb", buffering=0).write(data))
        with pytest.raises(PtqxError, match="No space left"):
            save(model, path)
    assert path.read_bytes() == old


def test_load_of_no_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(PtqxError, match="no such file"):
        load(tmp_path / "absent.ptqx")


def test_every_truncation_raises_and_nothing_else(model: IntegerModel) -> None:
    content = to_bytes(model)
    for length in [*range(64), *range(64, len(content), 97), len(content) - 1]:
        with pytest.raises(PtqxError):
            from_bytes(content[:length])


def test_every_altered_byte_raises(model: IntegerModel) -> None:
    content = to_bytes(model)
    for position in range(0, len(content), 61):
        altered = bytearray(content)
        altered[position] ^= 0x41
        with pytest.raises(PtqxError):
            from_bytes(bytes(altered))


def rewritten(content: bytes, change: object) -> bytes:
    """The file with its header changed."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + content[8 + length :]


def first(header: dict) -> dict:
    return next(value for key, value in header.items() if key != "__metadata__")


HOSTILE = {
    "no metadata": lambda h: h.pop("__metadata__"),
    "another format": lambda h: h["__metadata__"].update(format="onnx"),
    "another version": lambda h: h["__metadata__"].update(version="2"),
    "no graph": lambda h: h["__metadata__"].pop("graph"),
    "graph changed": lambda h: h["__metadata__"].update(
        graph=h["__metadata__"]["graph"].replace("conv1", "conv9")
    ),
    "huge shape": lambda h: first(h).update(shape=[2**40, 2**20]),
    "negative shape": lambda h: first(h).update(shape=[-1]),
    "overflowing shape": lambda h: first(h).update(shape=[2**62, 4, 2**62]),
    "offsets reversed": lambda h: first(h).update(data_offsets=[8, 0]),
    "offsets beyond the file": lambda h: first(h).update(data_offsets=[0, 2**50]),
    "overlap": lambda h: first(h).update(data_offsets=[1, 1 + first(h)["data_offsets"][1]]),
    "float offsets": lambda h: first(h).update(data_offsets=[0.0, 4.0]),
    "unknown dtype": lambda h: first(h).update(dtype="F64"),
    "dtype of another size": lambda h: first(h).update(dtype="I8"),
    "extra key": lambda h: first(h).update(comment="x"),
    "tensor missing": lambda h: h.pop(next(k for k in h if k != "__metadata__")),
    "metadata not strings": lambda h: h["__metadata__"].update(version=1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_header_raises_one_clear_error(name: str, model: IntegerModel) -> None:
    with pytest.raises(PtqxError):
        from_bytes(rewritten(to_bytes(model), HOSTILE[name]))


def test_header_longer_than_the_file_or_the_limit_raises() -> None:
    for length in (2**63, 2**40, 101 * 2**20, 100):
        with pytest.raises(PtqxError, match="header claims"):
            from_bytes(struct.pack("<Q", length) + b"{}")


GRAPH_CHANGES = {
    "unknown operation": lambda g: g["nodes"][1].update(op="conv3d"),
    "input from later": lambda g: g["nodes"][0].update(inputs=["fc"]),
    "unknown input": lambda g: g["nodes"][1].update(inputs=["nobody"]),
    "duplicate name": lambda g: g["nodes"][2].update(name=g["nodes"][1]["name"]),
    "tensor that is not there": lambda g: g["nodes"][1]["tensors"].update(weight="conv1.wait"),
    "bits that do not fit": lambda g: g["nodes"][1]["attrs"].update(weight_bits=4),
    "levels that do not fit": lambda g: g["nodes"][1]["tensors"].update(weight_levels="conv1.weight_scale"),
    "groups that do not fit": lambda g: g["nodes"][1]["attrs"].update(groups=5),
    "attribute missing": lambda g: g["nodes"][1]["attrs"].pop("stride"),
    "negative stride": lambda g: g["nodes"][1]["attrs"].update(stride=[-1, 1]),
    "input shape": lambda g: g["input"].update(shape=[4, 8, 8]),
    "huge input": lambda g: g["input"].update(shape=[3, 2**40, 2**40]),
    "qmax": lambda g: g["nodes"][0]["output"].update(qmax=256),
    "output": lambda g: g.update(output="conv1"),
    "version": lambda g: g.update(version=7),
    "nodes": lambda g: g.update(nodes={}),
}


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("name", ["conv1.weight_scale", "conv1.output_scale"])
def test_scale_that_is_no_scale_raises(name: str, value: float, model: IntegerModel) -> None:
    changed = copy.deepcopy(model)
    changed.state_dict()[name].fill_(value)
    with pytest.raises(PtqxError, match="scale"):
        from_bytes(to_bytes(changed))


@pytest.mark.parametrize("name", GRAPH_CHANGES)
def test_graph_that_does_not_fit_raises_one_clear_error(name: str, model: IntegerModel) -> None:
    """With a checksum that fits, as a stranger could write it."""
    from ptqx.graph.io import _sha256

    def change(header: dict) -> None:
        metadata = header["__metadata__"]
        graph = json.loads(metadata["graph"])
        GRAPH_CHANGES[name](graph)
        metadata["graph"] = json.dumps(graph)
        metadata["sha256"] = _sha256(metadata["graph"], model.tensors())

    with pytest.raises(PtqxError):
        from_bytes(rewritten(to_bytes(model), change))
