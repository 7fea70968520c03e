from __future__ import annotations

import copy
import math

import networks
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import IntegerModel, calibrate, compile, convert, coverage, prepare, quantize
from ptqx.graph.io import from_bytes, to_bytes
from ptqx.quant import Scheme, recipe
from torch import nn

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> IntegerModel:
    return quantize(networks.with_statistics(networks.Residual()), [X])


def test_state_dict_has_the_names_of_the_graph_and_round_trips(model: IntegerModel) -> None:
    state = model.state_dict()
    assert set(state) == model.graph.tensor_names()
    assert {"conv1.weight", "conv1.weight_scale", "conv1.bias", "conv1.output_scale"} <= set(state)
    assert state["conv1.weight"].dtype == torch.int8 and state["conv1.bias"].dtype == torch.int32
    other = quantize(networks.Residual(), [X])
    other.load_state_dict(state)
    assert torch.equal(other(X), model(X))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.half(),
        lambda m: m.bfloat16(),
        lambda m: m.double(),
        lambda m: m.to("meta"),
        lambda m: m.to(torch.float16),
        lambda m: nn.Sequential(m).half(),
    ],
    ids=["half", "bfloat16", "double", "device", "to", "inside"],
)
@pytest.mark.parametrize("compiled", [False, True], ids=["integer", "engine"])
def test_changing_type_or_device_raises_with_the_remedy(
    model: IntegerModel, change: object, compiled: bool
) -> None:
    with pytest.raises(PtqxError, match="float model"):
        change(compile(model, X) if compiled else model)


def test_changes_that_change_nothing_work(model: IntegerModel) -> None:
    assert torch.equal(model.float().cpu().to("cpu").train().eval()(X), model(X))


def test_copy_compile_and_export_are_equal(model: IntegerModel) -> None:
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    exported = torch.export.export(model, (X,), dynamic_shapes=({0: torch.export.Dim("n")},)).module()
    for batch in (X, X[:3], torch.cat([X, X])):
        expected = model(batch)
        assert torch.equal(copy.deepcopy(model)(batch), expected)
        assert torch.equal(compiled(batch), expected)
        assert torch.equal(exported(batch), expected)


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_of_few_bits_are_stored_without_gaps(bits: int) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 2, 1))
    model = quantize(net, [X], f"w{bits}a8")
    weight = model.state_dict()["1.weight"]
    assert weight.shape == ((6, math.ceil(4 * 9 * bits / 8)) if bits < 8 else (6, 4, 3, 3))
    assert model.graph.nodes["1"].attrs["weight_bits"] == bits


TWO_BITS = {
    "channel": Scheme(bits=2, granularity="channel", observer="mse"),
    "tensor": Scheme(bits=2, observer="mse"),
    "group": Scheme(bits=2, granularity="group", group_size=4),
    "midrise": Scheme(bits=2, granularity="channel", midrise=True),
}


@pytest.mark.parametrize("name", TWO_BITS)
def test_midrise_weights_are_equal_everywhere(name: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 2, 1))
    net[2].weight.data[0] = 0.0
    prep = calibrate(prepare(net, recipe("w2a8", weights=TWO_BITS[name], edge_bits=None), X), [X]).eval()
    model = convert(prep)
    node = model.graph.nodes["2"]
    levels = model.tensor(node, "weight_levels")
    assert levels is not None and levels.tolist().count([-3, -1, 1, 3]) > 0
    assert model.tensor(node, "weight").shape == (6, 8 * 9 // 4)
    expected = model(X)
    assert torch.equal(prep(X), expected)
    assert torch.equal(from_bytes(to_bytes(model))(X), expected)
    assert torch.equal(compile(model, X)(X), expected)


def test_midrise_weights_that_are_nothing_beside_the_bias_become_zero() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    net[0].weight.data[1] = net[0].weight.data[1].sign() * 1e-12
    net[0].bias.data.fill_(0.5)
    model = quantize(net, [X], recipe("w2a8", weights=TWO_BITS["midrise"], edge_bits=None))
    assert model.report.widened == {"0": 1}
    levels = model.tensor(model.graph.nodes["0"], "weight_levels")
    assert levels.tolist() == [[-3, -1, 1, 3], [-2, -1, 0, 1], [-3, -1, 1, 3], [-3, -1, 1, 3]]
    assert torch.allclose(model(X)[:, 1], torch.tensor(0.5), atol=1e-6)


@pytest.mark.parametrize("x", [X[:, :2], X[0], X.int()], ids=["channels", "rank", "dtype"])
def test_input_that_does_not_fit_raises(model: IntegerModel, x: torch.Tensor) -> None:
    with pytest.raises(PtqxError, match="input: expected float32"):
        model(x)


def test_any_strides_and_half_precision_inputs_work(model: IntegerModel) -> None:
    last = X.contiguous(memory_format=torch.channels_last)
    sliced = torch.randn(8, 3, 8, 16)[::2, :, :, ::2]
    assert torch.equal(model(last), model(X))
    assert torch.equal(model(sliced), model(sliced.contiguous()))
    assert torch.equal(model(X.half()), model(X.half().float()))


def test_float_part_runs_as_its_module_between_conversions() -> None:
    net = networks.PartlyUntraceable()
    prep = calibrate(prepare(net, "int8", X), [X]).eval()
    model = convert(prep)
    assert torch.equal(model(X), prep(X)) and torch.equal(model(-X), prep(-X))
    (row,) = coverage(model).float_rows
    assert row.name == "middle" and "control flow" in row.reason and "at networks.py:" in row.reason
    with pytest.raises(PtqxError, match="middle"):
        compile(model, X)


def test_convert_before_calibration_says_what_to_do() -> None:
    with pytest.raises(PtqxError, match="calibrate"):
        convert(prepare(networks.Residual(), "int8", X))


def test_convert_verifies_on_a_given_loader_and_reports() -> None:
    prep = calibrate(prepare(networks.Residual(), "int8", X), [X])
    report = convert(prep, verify=[(X[:2], None)]).report
    assert report.samples == 2 and report.compared == 7 and 0.0 <= report.agreement <= 1.0
    assert "7 of 7 steps equal" in str(report)
    with pytest.raises(PtqxError, match="verify: the loader is empty"):
        convert(prep, verify=[])


def test_convert_names_the_first_step_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    prep = calibrate(prepare(networks.Residual(), "int8", X), [X]).eval()
    run = IntegerModel.run

    def altered(
        self: IntegerModel, x: torch.Tensor, keep: dict[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        y = run(self, x, keep)
        if keep is not None:
            keep["conv2"][0, 0, 0, 0] ^= 1
            keep["mean"][0] ^= 1
        return y

    monkeypatch.setattr(IntegerModel, "run", altered)
    with pytest.raises(PtqxError, match=r"conv2 \(conv2d\): 1 of 2048 values"):
        convert(prep)


def test_convert_after_training_diverged_names_the_layer() -> None:
    prep = calibrate(prepare(networks.Residual(), "int8", X), [X])
    with torch.no_grad():
        prep.fc.weight.fill_(float("nan"))
    with pytest.raises(PtqxError, match=r"fc\.weight: 40 of 40"):
        convert(prep)


def test_coverage_lists_every_step_with_macs(model: IntegerModel) -> None:
    table = coverage(model)
    macs = {row.name: row.macs for row in table.rows if row.macs}
    assert macs == {"conv1": 64 * 8 * 27, "shortcut": 64 * 64, "conv2": 64 * 8 * 72, "fc": 40}
    assert table.mac_share == 1.0 and table.float_rows == ()
    assert "100.00 % of 54,824 MACs are integer" in str(table)
    assert coverage(compile(model, X)) == table


def test_coverage_of_weight_only_says_that_it_computes_in_float() -> None:
    table = coverage(quantize(networks.Residual(), [X], "int4-weight-only"))
    assert table.mac_share == 0.0
    assert {row.reason for row in table.rows if row.macs} == {"weight-only quantization computes in float"}


def test_coverage_of_a_float_model_raises() -> None:
    with pytest.raises(PtqxError, match="expected an integer model"):
        coverage(networks.Residual())


def test_engine_state_copy_compile_and_export_are_equal(model: IntegerModel) -> None:
    engine = compile(model, X)
    assert set(engine.state_dict()) == {"program"} and engine.output_shape == [5]
    compiled = torch.compile(engine, fullgraph=True, backend="aot_eager", dynamic=True)
    exported = torch.export.export(engine, (X,), dynamic_shapes=({0: torch.export.Dim("n")},)).module()
    for batch in (X, X[:3]):
        assert torch.equal(engine(batch), model(batch))
        assert torch.equal(copy.deepcopy(engine)(batch), model(batch))
        assert torch.equal(compiled(batch), model(batch))
        assert torch.equal(exported(batch), model(batch))


def test_per_group_weights_run_in_integers() -> None:
    weights = Scheme(bits=4, granularity="group", group_size=4)
    model = quantize(networks.Residual(), [X], recipe("int4", weights=weights, edge_bits=None))
    assert model.state_dict()["conv2.weight_scale"].shape == (8, 2)
    assert model.state_dict()["conv2.bias"].dtype == torch.float32
    assert coverage(model).mac_share == 1.0
