from __future__ import annotations

import copy

import pytest
import reference
import torch
from ptqx.errors import PtqxError
from ptqx.quant import QUANTIZERS, Fixed, Recipe, Scheme, make_quantizer, register_quantizer
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

ACTIVATIONS = Scheme(signed=False, symmetric=False, observer="mse")
ASYMMETRIC = Scheme(symmetric=False)
CHANNEL = Scheme(bits=4, granularity="channel")
GROUP = Scheme(bits=4, granularity="group", group_size=4)
SAMPLE = Scheme(signed=False, symmetric=False, granularity="sample")
KINDS = ["fixed", "moving_average", "lsq", "lsq_plus", "pact"]
SCHEMES = {"tensor": ASYMMETRIC, "channel": CHANNEL, "group": GROUP}


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


WEIGHT = values(6, 10, 3, 3)


def quantizer_of(kind, scheme):
    return make_quantizer(scheme, kind, channels=6, groups=3, name="conv1")


def grid(quantizer, x):
    """What forward must give, by the twin."""
    scheme = quantizer.scheme
    scale, zero_point = quantizer.qparams(x)
    return reference.fake_quantize(x, scale, zero_point, scheme.qmin, scheme.qmax, 0, scheme.group_size)


@pytest.mark.parametrize("granularity", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_forward_codes_and_quantize_agree(kind, granularity):
    quantizer = quantizer_of(kind, SCHEMES[granularity])
    quantizer.fit(WEIGHT)
    quantizer.eval()
    x = WEIGHT * 1.3
    scheme = quantizer.scheme
    scale, zero_point = quantizer.scale.detach(), quantizer.zero_point
    codes = reference.quantize(x, scale, zero_point, scheme.qmin, scheme.qmax, 0, scheme.group_size)
    assert torch.equal(quantizer.quantize(x), codes)
    assert torch.equal(quantizer.codes_f32(x), codes.float())
    assert torch.equal(quantizer(x), grid(quantizer, x))


@pytest.mark.parametrize("granularity", SCHEMES)
def test_scale_has_one_entry_per_sharing_set(granularity):
    shape = {"tensor": (1,), "channel": (6,), "group": (6, 3)}[granularity]
    quantizer = quantizer_of("fixed", SCHEMES[granularity])
    assert quantizer.scale.shape == quantizer.zero_point.shape == shape
    quantizer.fit(WEIGHT)
    assert quantizer.scale.shape == quantizer.zero_point.shape == shape


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_is_observing_then_compute_qparams(kind):
    quantizer = make_quantizer(ACTIVATIONS, kind)
    quantizer.observing = True
    batches = [values(4, 3, 5, 5, seed=s).relu() for s in range(3)]
    for batch in batches:
        assert quantizer(batch) is batch
    quantizer.observing = False
    assert not bool(quantizer.calibrated)
    quantizer.compute_qparams()
    first = quantizer.scale.detach().clone(), quantizer.zero_point.clone()
    quantizer.compute_qparams()
    assert bool(quantizer.calibrated)
    assert torch.equal(quantizer.scale, first[0])
    assert torch.equal(quantizer.zero_point, first[1])
    whole = make_quantizer(ACTIVATIONS, kind)
    whole.observe(torch.cat(batches))
    whole.compute_qparams()
    assert torch.equal(whole.scale, quantizer.scale)


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_is_strict_before_and_after_calibration(kind):
    before, after = make_quantizer(ACTIVATIONS, kind), make_quantizer(ACTIVATIONS, kind)
    after.observe(values(20).relu())
    after.compute_qparams()
    assert {k: v.shape for k, v in before.state_dict().items()} == {
        k: v.shape for k, v in after.state_dict().items()
    }
    initial = copy.deepcopy(before.state_dict())
    before.load_state_dict(after.state_dict(), strict=True)
    assert torch.equal(before.scale, after.scale)
    assert torch.equal(before.eval()(values(7)), after.eval()(values(7)))
    after.load_state_dict(initial, strict=True)
    with pytest.raises(PtqxError, match=r"not calibrated"):
        after.eval()(values(7))


@pytest.mark.parametrize("kind", KINDS)
def test_deepcopy_is_independent(kind):
    quantizer = make_quantizer(ACTIVATIONS, kind)
    quantizer.observe(values(20).relu())
    twin = copy.deepcopy(quantizer)
    quantizer.observe(values(20).relu() * 100)
    quantizer.compute_qparams()
    twin.compute_qparams()
    assert twin.scale.item() < quantizer.scale.item() / 10


@pytest.mark.parametrize("use_buffers", [False, True], ids=["parameters", "buffers too"])
@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.9)], ids=["mean", "ema"])
@pytest.mark.parametrize("kind", KINDS)
def test_averaged_model_keeps_a_calibrated_quantizer(kind, average, use_buffers):
    quantizer = make_quantizer(ACTIVATIONS, kind)
    quantizer.observe(values(20).relu())
    quantizer.compute_qparams()
    model = nn.Sequential(quantizer, nn.PReLU())
    averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=use_buffers)
    for _ in range(3):
        averaged.update_parameters(model)
    averaged.eval()
    assert bool(averaged.module[0].calibrated)
    assert torch.allclose(averaged(values(9)), model.eval()(values(9)), atol=1e-6)


def test_disabled_quantizer_is_the_identity():
    quantizer = make_quantizer(ACTIVATIONS)
    quantizer.enabled = False
    x = values(5)
    assert quantizer(x) is x


@pytest.mark.parametrize("call", ["forward", "quantize", "codes_f32"])
def test_uncalibrated_quantizer_raises_with_its_name(call):
    quantizer = make_quantizer(ACTIVATIONS, name="features.3")
    with pytest.raises(PtqxError, match=r"features.3: the quantizer is not calibrated"):
        getattr(quantizer, call)(values(5))


def test_compute_qparams_without_batches_raises_with_the_name():
    with pytest.raises(PtqxError, match=r"features.3: nothing was observed"):
        make_quantizer(ACTIVATIONS, name="features.3").compute_qparams()


def test_non_finite_calibration_data_raises_with_name_and_count():
    x = values(5)
    x[2] = float("nan")
    with pytest.raises(PtqxError, match=r"features.3: 1 of 5 values are NaN or infinite"):
        make_quantizer(ACTIVATIONS, name="features.3").observe(x)


def test_fit_of_the_wrong_shape_is_an_error():
    with pytest.raises(PtqxError, match=r"conv1: .* needs scales of shape \(5,\), the quantizer has \(6,\)"):
        quantizer_of("fixed", CHANNEL).fit(values(5, 3))


def test_set_qparams_checks_its_arguments():
    quantizer = make_quantizer(ACTIVATIONS)
    quantizer.set_qparams(torch.tensor([0.5]), torch.tensor([3], dtype=torch.int32))
    assert quantizer.codes_f32(torch.tensor([1.0])).item() == 5
    for scale, zero_point, message in (
        ([0.0], [0], "scale: expected finite numbers"),
        ([float("inf")], [0], "scale: expected finite numbers"),
        ([float("nan")], [0], "scale: expected finite numbers"),
        ([1.0], [256], "zero_point: expected 0 to 255, got"),
        ([1.0, 1.0], [0], r"scale: expected shape \(1,\), got \(2,\)"),
    ):
        with pytest.raises(PtqxError, match=message):
            quantizer.set_qparams(torch.tensor(scale), torch.tensor(zero_point))


@pytest.mark.parametrize("kind", ["fixed", "lsq"])
def test_input_gradient_passes_inside_and_stops_outside(kind):
    quantizer = make_quantizer(Scheme(bits=4), kind)
    quantizer.set_qparams(torch.tensor([0.5]), torch.tensor([0]))
    x = torch.tensor([-10.0, -4.0, 0.3, 3.5, 3.8, 10.0], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("granularity", SCHEMES)
def test_lsq_gradients_equal_the_twin(granularity):
    quantizer = quantizer_of("lsq", SCHEMES[granularity])
    quantizer.fit(WEIGHT)
    x, weights = (WEIGHT * 1.5).requires_grad_(), values(*WEIGHT.shape, seed=1)
    (quantizer(x) * weights).sum().backward()
    scheme = quantizer.scheme
    twin_x, twin_scale = (WEIGHT * 1.5).requires_grad_(), quantizer.scale.detach().requires_grad_()
    twin = reference.lsq(
        twin_x, twin_scale, quantizer.zero_point, scheme.qmin, scheme.qmax, group_size=scheme.group_size
    )
    (twin * weights).sum().backward()
    assert torch.equal(x.grad != 0, twin_x.grad != 0)
    assert torch.allclose(x.grad, twin_x.grad, rtol=1e-6)
    assert torch.allclose(quantizer.learned_scale.grad, twin_scale.grad, rtol=1e-4, atol=1e-5)


def test_lsq_scale_gradient_by_hand():
    quantizer = make_quantizer(Scheme(bits=4), "lsq")
    quantizer.set_qparams(torch.tensor([1.0]), torch.tensor([0]))
    quantizer(torch.tensor([0.25, 2.75, 100.0, -100.0])).sum().backward()
    expected = ((0 - 0.25) + (3 - 2.75) + 7 - 8) / (4 * 7) ** 0.5
    assert quantizer.learned_scale.grad.item() == pytest.approx(expected)


def test_lsq_scale_stays_positive_under_any_step():
    quantizer = make_quantizer(Scheme(bits=4), "lsq")
    quantizer.fit(values(100))
    for step in (-1.0, 0.0, -1e-30, 5.0):
        with torch.no_grad():
            quantizer.learned_scale.fill_(step)
        assert quantizer.scale.item() >= 2.0**-64
        assert bool(quantizer(values(10)).isfinite().all())


def test_lsq_training_lowers_the_error():
    x = values(1000) ** 3
    quantizer = make_quantizer(Scheme(bits=3), "lsq")
    quantizer.fit(x)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.3)
    errors = []
    for _ in range(100):
        error = (quantizer(x) - x).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    searched = make_quantizer(Scheme(bits=3, observer="mse"))
    searched.fit(x)
    assert errors[-1] < errors[0]
    assert errors[-1] < 1.1 * (searched(x) - x).square().mean().item()


def test_moving_average_follows_the_batches_until_frozen():
    quantizer = make_quantizer(Scheme(signed=False, symmetric=False), "moving_average")
    quantizer.momentum = 0.5
    quantizer.train()
    quantizer(torch.tensor([0.0, 255.0]))
    assert quantizer.scale.item() == 1.0
    quantizer(torch.tensor([0.0, 765.0]))
    assert quantizer.scale.item() == 2.0
    quantizer.eval()(torch.tensor([0.0, 9999.0]))
    assert quantizer.scale.item() == 2.0
    quantizer.train()
    quantizer.frozen = True
    quantizer(torch.tensor([0.0, 9999.0]))
    assert quantizer.scale.item() == 2.0


def test_moving_average_weight_follows_at_once():
    quantizer = quantizer_of("moving_average", CHANNEL).train()
    quantizer(WEIGHT)
    quantizer(WEIGHT * 4)
    fresh = quantizer_of("fixed", CHANNEL)
    fresh.fit(WEIGHT * 4)
    assert torch.equal(quantizer.scale, fresh.scale)


def test_dynamic_quantizes_each_sample_by_its_own_range():
    quantizer = make_quantizer(SAMPLE)
    x = values(5, 3, 4, 4) * torch.tensor([1.0, 10.0, 0.1, 0.0, 1.0]).view(5, 1, 1, 1)
    scale, zero_point = quantizer.qparams(x)
    assert scale.shape == zero_point.shape == (5,)
    for i, sample in enumerate(x):
        alone = make_quantizer(Scheme(signed=False, symmetric=False))
        alone.fit(sample)
        assert torch.equal(scale[i], alone.scale[0])
        assert torch.equal(quantizer.codes_f32(x)[i], alone.codes_f32(sample))
        assert torch.equal(quantizer(x)[i], alone(sample))
        assert torch.equal(quantizer.quantize(x)[i], alone.quantize(sample))
    assert quantizer(x[:0]).shape == (0, 3, 4, 4)


def test_merge_equals_observing_everything():
    one, other, whole = (make_quantizer(ACTIVATIONS) for _ in range(3))
    a, b = values(50, seed=1), values(30, seed=2) * 7
    one.observe(a)
    other.observe(b)
    one.merge(other)
    whole.observe(torch.cat([a, b]))
    one.compute_qparams()
    whole.compute_qparams()
    assert torch.equal(one.scale, whole.scale)


def test_quantizer_refuses_levels_it_cannot_do():
    shift = Scheme(levels="shift", signed=False, symmetric=False)
    with pytest.raises(PtqxError, match=r"needs levels='uniform'"):
        Fixed(shift)
    with pytest.raises(PtqxError, match=r"did you mean lsq"):
        make_quantizer(Scheme(), "lqs")


def test_recipes_keep_levels_that_are_a_list_to_weights():
    with pytest.raises(PtqxError, match="levels 'pow2' are for weights"):
        Recipe(activations=Scheme(bits=4, levels="pow2"))
    with pytest.raises(PtqxError, match="rounding='stochastic' is for weights"):
        Recipe(activations=Scheme(signed=False, symmetric=False, rounding="stochastic"))


def test_new_quantizer_is_one_decorated_class():
    @register_quantizer("doubled")
    class Doubled(Fixed):
        def _fake_quantize(self, x):
            return 2 * super()._fake_quantize(x)

    try:
        quantizer = make_quantizer(Scheme(), "doubled")
        quantizer.set_qparams(torch.tensor([1.0]), torch.tensor([0]))
        assert quantizer(torch.tensor([3.2])).item() == 6.0
    finally:
        del QUANTIZERS._entries["doubled"]


def test_nan_reaches_the_output_of_forward_only():
    quantizer = make_quantizer(Scheme(), name="fc")
    quantizer.set_qparams(torch.tensor([1.0]), torch.tensor([0]))
    x = torch.tensor([float("nan"), float("inf"), 1.0])
    assert quantizer(x).isnan().tolist() == [True, False, False]
    with pytest.raises(PtqxError, match=r"fc: .* 2 NaN or infinite values of 3"):
        quantizer.quantize(x)


def test_dynamic_parameters_equal_the_operator():
    x = values(4, 3, 5, 5) * torch.tensor([1.0, 100.0, 1e-3, 7.0]).view(4, 1, 1, 1)
    codes, scale, zero_point = torch.ops.ptqx.dynamic_quantize(x, 0, 255, True)
    quantizer = make_quantizer(SAMPLE)
    got_scale, got_zero_point = quantizer.qparams(x)
    assert torch.equal(got_scale, scale)
    assert torch.equal(got_zero_point, zero_point)
    assert torch.equal(quantizer.quantize(x), codes)


@pytest.mark.parametrize("kind", ["fixed", "lsq", "lsq_plus", "pact"])
def test_calibrated_quantizer_compiles_without_graph_breaks(kind):
    quantizer = make_quantizer(ACTIVATIONS, kind)
    quantizer.fit(values(50).relu())
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    x = values(8, 4)
    assert torch.equal(compiled(x), quantizer(x))


@pytest.mark.parametrize("granularity", SCHEMES)
def test_codes_are_exported_whole(granularity):
    class Codes(nn.Module):
        def __init__(self, quantizer):
            super().__init__()
            self.quantizer = quantizer

        def forward(self, x):
            return self.quantizer.codes_f32(x), self.quantizer.quantize(x)

    quantizer = quantizer_of("fixed", SCHEMES[granularity])
    quantizer.fit(WEIGHT)
    exported = torch.export.export(Codes(quantizer), (WEIGHT,)).module()
    for got, expected in zip(exported(WEIGHT * 1.2), Codes(quantizer)(WEIGHT * 1.2), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("bits", [4, 8], ids=["full range", "narrow range"])
@pytest.mark.parametrize("kind", ["fixed", "moving_average", "lsq"])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_forward_scaled_is_forward_of_the_scaled_weight_divided_again(granularity, kind, bits):
    scheme = Scheme(bits=bits, granularity=granularity)
    quantizer = quantizer_of(kind, scheme).train()
    factor = torch.tensor([0.3, -1.7, 2.5, -0.01, 1.0, 40.0])
    column = factor.reshape(-1, 1, 1, 1)
    quantizer.fit(WEIGHT * column)
    grad = values(*WEIGHT.shape, seed=3)
    results = []
    for apart in (False, True):
        quantizer.zero_grad()
        weight, stretch = WEIGHT.clone().requires_grad_(), factor.clone().requires_grad_()
        shape = stretch.reshape(-1, 1, 1, 1)
        y = quantizer(weight * shape) / shape if apart else quantizer.forward_scaled(weight, stretch)
        y.backward(grad)
        learned = [p.grad.clone() for p in quantizer.parameters()]
        results.append([y.detach(), weight.grad, stretch.grad, *learned])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_moving_average_compiles_and_follows_the_same_batches():
    quantizer = make_quantizer(ACTIVATIONS, "moving_average").train()
    twin = copy.deepcopy(quantizer)
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    for seed in range(3):
        x = values(8, 4, seed=seed) * (1 + seed)
        assert torch.equal(compiled(x), twin(x))
        assert torch.equal(quantizer.low, twin.low) and torch.equal(quantizer.scale, twin.scale)
    with pytest.raises(PtqxError, match="1 of 32 values are NaN"):
        compiled(values(8, 4).index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(float("nan"))))
