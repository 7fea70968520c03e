from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ptqx.errors import PtqxError
from ptqx.quant import (
    OBSERVERS,
    HistogramObserver,
    MinMax,
    Scheme,
    codes_f32,
    dequantize_codes,
    make_observer,
    observe_whole,
    qparams_from_range,
    register_observer,
)

SPLIT_INDEPENDENT = ["minmax", "ksigma", "percentile", "mse", "kl"]


def scheme(observer, symmetric=False, **args):
    return Scheme(signed=symmetric, symmetric=symmetric, observer=observer, observer_args=args)


def observed(x, chunks, of):
    observer = make_observer(of)
    for chunk in chunks:
        observer.update(x[chunk])
    return observer


def ranges(observer):
    return tuple(value.item() for value in observer.range())


def random_values(seed, size, spread):
    """Values of both signs whose magnitudes span 10**+-spread, with exact zeros and repeats among them."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(size) * 10.0 ** generator.uniform(-spread, spread, size)
    x[generator.random(size) < 0.2] = 0.0
    return torch.from_numpy(x.astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 400),
    spread=st.sampled_from([0.0, 3.0, 30.0]),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    symmetric=st.booleans(),
    name=st.sampled_from(SPLIT_INDEPENDENT),
)
def test_any_split_order_and_merge_gives_the_same_bits(seed, size, spread, cuts, symmetric, name):
    x, of = random_values(seed, size, spread), scheme(name, symmetric)
    whole = observed(x, [slice(None)], of)
    edges = [0, *sorted(min(cut, size) for cut in cuts), size]
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    split = observed(x, parts, of)
    backward = observed(x, parts[::-1], of)
    merged = make_observer(of)
    for part in parts:
        merged.merge(observed(x, [part], of))
    for other in (split, backward, merged):
        for key, value in whole.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), key
        assert ranges(other) == ranges(whole)


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("name", OBSERVERS)
def test_scale_is_valid_for_awkward_data(name, symmetric):
    of = scheme(name, symmetric)
    cases = {
        "all zero": torch.zeros(10),
        "one value": torch.tensor([3.0]),
        "negative constant": torch.full((7,), -2.5),
        "tiny": torch.tensor([1e-42, -1e-40, 0.0]),
        "huge": torch.tensor([3e38, -3e38, 1.0]),
        "outlier": torch.cat([torch.linspace(0, 1, 1000), torch.tensor([1e6])]),
    }
    for label, x in cases.items():
        for low, high in (observed(x, [slice(None)], of).range(), observe_whole(x, of)):
            scale, _ = qparams_from_range(low, high, of)
            assert scale.shape == (1,), label
            assert 2.0**-64 <= float(scale) < math.inf, label
    zero_scale, zero_point = qparams_from_range(*observed(cases["all zero"], [slice(None)], of).range(), of)
    assert (float(zero_scale), int(zero_point)) == (1.0, 0)


@pytest.mark.parametrize("name", OBSERVERS)
def test_non_finite_batch_raises_and_leaves_the_state(name):
    observer = make_observer(scheme(name))
    observer.update(torch.arange(5.0))
    before = copy.deepcopy(observer.state_dict())
    with pytest.raises(PtqxError, match=r"features.0: 2 of 4 values are NaN or infinite"):
        observer.update(torch.tensor([1.0, math.nan, 2.0, math.inf]), name="features.0")
    for key, value in observer.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", OBSERVERS)
def test_nothing_observed_is_an_error(name):
    observer = make_observer(scheme(name))
    observer.update(torch.zeros(0, 3))
    with pytest.raises(PtqxError, match=r"nothing was observed"):
        observer.range()


@pytest.mark.parametrize("name", OBSERVERS)
def test_state_has_fixed_shapes_and_loads_strictly(name):
    observer, fresh = make_observer(scheme(name)), make_observer(scheme(name))
    shapes = {key: (value.shape, value.dtype) for key, value in observer.state_dict().items()}
    for batch in (torch.randn(50), torch.randn(3, 4) * 1e5, torch.zeros(2)):
        observer.update(batch)
    assert {key: (value.shape, value.dtype) for key, value in observer.state_dict().items()} == shapes
    fresh.load_state_dict(observer.state_dict(), strict=True)
    assert ranges(fresh) == ranges(observer) == ranges(copy.deepcopy(observer))
    observer.reset()
    assert int(observer.count) == 0


def test_merging_different_kinds_is_an_error():
    with pytest.raises(PtqxError, match=r"its own kind"):
        make_observer(scheme("minmax")).merge(make_observer(scheme("ksigma")))


def test_moving_average_follows_its_formula():
    observer = make_observer(scheme("moving_average", momentum=0.25))
    for batch in ([-1.0, 4.0], [-3.0, 8.0]):
        observer.update(torch.tensor(batch))
    assert ranges(observer) == (-1.0 + 0.25 * -2.0, 4.0 + 0.25 * 4.0)


def test_moving_average_merge_weighs_by_batches():
    one, other = (make_observer(scheme("moving_average")) for _ in range(2))
    one.update(torch.tensor([0.0, 1.0]))
    for _ in range(3):
        other.update(torch.tensor([0.0, 5.0]))
    one.merge(other)
    assert ranges(one) == (0.0, 4.0)


@given(seed=st.integers(0, 1000), size=st.integers(1, 300))
def test_histogram_counts_are_those_of_numpy(seed, size):
    x = random_values(seed, size, 3.0)
    observer = observed(x, [slice(None)], scheme("percentile"))
    assert isinstance(observer, HistogramObserver)
    bins = observer.counts.shape[1]
    scaled = np.floor(np.abs(x.double().numpy()) / observer.width).astype(int)
    expected = np.stack([np.bincount(scaled[np.asarray(side)], minlength=bins) for side in (x >= 0, x < 0)])
    assert np.array_equal(observer.counts.numpy(), expected)
    if bool(x.any()):
        assert bins / 2 <= scaled.max() < bins or observer.width == 2.0**-126


@pytest.mark.parametrize("percentile", [60.0, 99.0, 99.9, 100.0])
def test_streamed_percentile_is_within_a_bin_of_numpy(percentile):
    x = random_values(0, 20000, 0.5)
    observer = observed(x, [slice(0, 77), slice(77, None)], scheme("percentile", percentile=percentile))
    expected = np.percentile(x.double().numpy(), [100 - percentile, percentile])
    spacing = 0.05 if percentile > 99 else 0.0  # between neighbouring order statistics in the tail
    assert ranges(observer) == pytest.approx(expected, abs=observer.width + spacing)


def test_streamed_symmetric_percentile_is_that_of_magnitudes():
    x = random_values(1, 20000, 0.3)
    observer = observed(x, [slice(None)], scheme("percentile", symmetric=True, percentile=99.0))
    low, high = ranges(observer)
    assert low == -high
    assert high == pytest.approx(np.percentile(np.abs(x.double().numpy()), 99.0), abs=observer.width)


def test_exact_moments_match_extended_precision():
    x = random_values(2, 5000, 6.0)
    mean, std = observed(x, [slice(None)], scheme("ksigma")).moments()
    exact = x.double().tolist()
    true_mean = math.fsum(exact) / len(exact)
    true_std = math.sqrt(math.fsum((value - true_mean) ** 2 for value in exact) / len(exact))
    assert mean == pytest.approx(true_mean, rel=1e-14)
    assert std == pytest.approx(true_std, rel=1e-12)


def test_exact_moments_of_a_nearly_constant_tensor_do_not_cancel():
    x = torch.tensor([1e6, 1e6 + 0.0625] * 500)
    mean, std = observed(x, [slice(None)], scheme("ksigma")).moments()
    assert mean == 1e6 + 0.03125
    assert std == 0.03125


def test_asymmetric_ksigma_stays_inside_the_data():
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert ranges(observed(x, [slice(None)], scheme("ksigma"))) == (x.min().item(), x.max().item())


WEIGHTS = torch.from_numpy(np.random.default_rng(3).standard_t(4, (8, 5, 3, 3)).astype(np.float32) * 0.1)
SCALINGS = {
    "minmax": lambda w: np.abs(w).max() / 127,
    "ksigma": lambda w: 3 * w.std() / 127,
    "percentile": lambda w: np.percentile(np.abs(w), 99.9) / 127,
}


@pytest.mark.parametrize("name", SCALINGS)
def test_three_scalings_per_tensor_match_the_hand_formula(name):
    of = scheme(name, symmetric=True)
    scale, _ = qparams_from_range(*observe_whole(WEIGHTS, of), of)
    assert scale.item() == pytest.approx(SCALINGS[name](WEIGHTS.double().numpy()), rel=1e-6)


@pytest.mark.parametrize("name", SCALINGS)
def test_three_scalings_per_channel_match_the_hand_formula(name):
    of = Scheme(granularity="channel", observer=name)
    scale, _ = qparams_from_range(*observe_whole(WEIGHTS, of), of)
    assert scale.tolist() == pytest.approx([SCALINGS[name](w) for w in WEIGHTS.double().numpy()], rel=1e-6)


@pytest.mark.parametrize("name", OBSERVERS)
def test_channel_and_group_ranges_are_those_of_each_part_alone(name):
    channel = Scheme(granularity="channel", observer=name)
    low, high = observe_whole(WEIGHTS, channel)
    parts = [observe_whole(w, Scheme(observer=name)) for w in WEIGHTS]
    assert low.tolist() == pytest.approx([part[0].item() for part in parts], rel=1e-6)
    assert high.tolist() == pytest.approx([part[1].item() for part in parts], rel=1e-6)
    low, high = observe_whole(WEIGHTS, Scheme(granularity="group", group_size=4, observer=name))
    assert low.shape == high.shape == (8, 2)
    alone = observe_whole(WEIGHTS[5, 4:], Scheme(observer=name))
    assert (low[5, 1].item(), high[5, 1].item()) == pytest.approx(
        (alone[0].item(), alone[1].item()), rel=1e-6
    )


def squared_error(x, low, high, of):
    scale, zero_point = qparams_from_range(torch.as_tensor([low]), torch.as_tensor([high]), of)
    restored = dequantize_codes(codes_f32(x, scale, zero_point, of.qmin, of.qmax), scale, zero_point)
    return ((restored - x).double() ** 2).mean().item()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_mse_range_is_nearly_the_best_of_a_dense_sweep(bits, symmetric):
    x = torch.from_numpy(np.random.default_rng(0).standard_t(3, 4000).astype(np.float32))
    x = x if symmetric else x.relu()
    of = Scheme(bits=bits, signed=symmetric, symmetric=symmetric, observer="mse")
    top = x.abs().max().item()
    sweep = [top * fraction for fraction in np.geomspace(1 / 32, 1, 200)]
    best = min(squared_error(x, -bound if symmetric else 0.0, bound, of) for bound in sweep)
    for low, high in (observe_whole(x, of), observed(x, [slice(None)], of).range()):
        assert squared_error(x, low.item(), high.item(), of) <= best * 1.05


def test_mse_moves_both_ends_of_an_asymmetric_range():
    x = torch.cat(
        [torch.randn(20000, generator=torch.Generator().manual_seed(0)), torch.tensor([-30.0, 60.0])]
    )
    of = Scheme(bits=4, symmetric=False, observer="mse")
    for low, high in (observe_whole(x, of), observed(x, [slice(None)], of).range()):
        assert squared_error(x, low.item(), high.item(), of) < squared_error(x, -30.0, 60.0, of) / 4
        assert -6 < low.item() < -1.5
        assert 1.5 < high.item() < 6


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_kl_cuts_rare_outliers_and_keeps_a_flat_range(symmetric):
    generator = torch.Generator().manual_seed(0)
    tailed = torch.cat([torch.randn(100000, generator=generator).abs(), torch.tensor([40.0])])
    flat = torch.rand(100000, generator=generator)
    _, high = ranges(observed(tailed, [slice(None)], scheme("kl", symmetric)))
    assert 2.0 < high < 10.0
    _, high = ranges(observed(flat, [slice(None)], scheme("kl", symmetric)))
    assert high > 0.9


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("percentile", {"percentile": 50.0}),
        ("percentile", {"percentile": 100.5}),
        ("ksigma", {"k": 0.0}),
        ("ksigma", {"k": math.nan}),
        ("moving_average", {"momentum": 0.0}),
        ("moving_average", {"momentum": 1.5}),
    ],
    ids=str,
)
def test_bad_observer_argument_is_named(name, args):
    with pytest.raises(PtqxError, match=f"{next(iter(args))}: expected a"):
        make_observer(scheme(name, **args))


def test_new_observer_is_one_decorated_class():
    @register_observer("half_range")
    class HalfRange(MinMax):
        def _range(self):
            return self.low / 2, self.high / 2

    try:
        observer = observed(torch.tensor([-2.0, 6.0]), [slice(None)], scheme("half_range"))
        assert ranges(observer) == (-1.0, 3.0)
    finally:
        del OBSERVERS._entries["half_range"]


def _sync_on_a_rank(rank, folder, parts, of):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    observer = make_observer(of)
    for batch in parts[rank]:
        observer.update(batch)
    observer.sync()
    torch.save(observer.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["mse", "ksigma"])
def test_sync_over_two_ranks_equals_one_observer_of_everything(name, tmp_path):
    of, x = scheme(name), random_values(7, 500, 2.0)
    parts = [[x[:100]], [x[100:130], x[130:]]]
    torch.multiprocessing.spawn(_sync_on_a_rank, (str(tmp_path), parts, of), nprocs=2)
    whole = observed(x, [slice(None)], of).state_dict()
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for key, value in whole.items():
            assert torch.equal(state[key], value), (rank, key)
