"""What single parts compute, against values written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ptqx import graph, models
from ptqx.graph.weights import folded
from ptqx.study.bootstrap import mean_drop_interval, paired_drop_interval
from ptqx.study.experiment.law import fit_law
from ptqx.study.experiment.parts.biases import round_to_own_scale, saturate
from ptqx.study.experiment.parts.distributions import before_and_after
from ptqx.study.experiment.parts.half_floats import HalfFloatOptions, lost, train_rounded
from ptqx.study.plots import pareto_front


def prepared(recipe: str = "int8") -> tuple[graph.SimulatedModel, torch.Tensor]:
    torch.manual_seed(0)
    model = models.cnn(width=4).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias)
    x = torch.randn(8, 1, 8, 8)
    return graph.calibrate(graph.prepare(model, recipe, x), [x]).eval(), x


def test_biases_of_8_bits_are_whole_multiples_of_one_scale_a_layer() -> None:
    prep, _ = prepared()
    before = {n.name: folded(prep, n)[1].clone() for n in prep.graph if n.op in ("conv2d", "linear")}
    round_to_own_scale(prep)
    for name, bias in before.items():
        scale = bias.abs().max() / 127
        codes = folded(prep, prep.graph.nodes[name])[1] / scale
        assert torch.allclose(codes, torch.round(bias / scale), atol=1e-3), name


def test_saturated_biases_fit_8_bits_of_the_accumulator() -> None:
    prep, x = prepared()
    saturate(prep)
    model = graph.convert(prep)
    biases = [b for name, b in model.named_buffers() if name.endswith("bias") and b.dtype == torch.int32]
    assert biases
    assert all(int(b.abs().max()) <= 128 for b in biases)
    assert model(x).isfinite().all()


def test_histograms_before_and_after_count_the_same_values() -> None:
    prep, x = prepared("w4a4")
    layers = before_and_after(prep, x)
    assert {layer["what"] for layer in layers} == {"weight", "output"}
    for layer in layers:
        assert sum(layer["counts"]) == sum(layer["float_counts"]) > 0
    inner = next(d for d in layers if d["layer"] == "features.3" and d["what"] == "output")
    assert sum(count > 0 for count in inner["counts"]) <= 16


def test_lost_counts_what_a_type_cannot_hold() -> None:
    x = torch.tensor([7e4, -1e5, 1e-8, 0.0, 1e-5, 1.0])
    assert lost([x], torch.float16) == {"values": 6, "overflow": 2, "underflow": 1, "subnormal": 1}
    assert lost([x], torch.bfloat16) == {"values": 6, "overflow": 0, "underflow": 0, "subnormal": 0}


def test_training_in_float32_is_plain_training_and_in_16_bits_near_it() -> None:
    from ptqx.data import Loader, load

    losses = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        batches = Loader(load("digits"), 32, shuffle=True)
        run = train_rounded(models.cnn(width=4), batches, dtype, HalfFloatOptions(steps=4))
        losses[dtype] = torch.tensor(run["losses"])
        assert run["steps"] == 4
    assert not torch.equal(losses[torch.bfloat16], losses[torch.float32])
    error = {dtype: (values - losses[torch.float32]).abs().max() for dtype, values in losses.items()}
    assert error[torch.float16] < error[torch.bfloat16] < 0.05


def test_law_finds_floor_and_rate_in_noise() -> None:
    generator = np.random.default_rng(0)
    bits = [8, 7, 6, 5, 4, 3, 2]
    losses = [1.2 + 20 * 2 ** (-1.7 * b) + generator.normal(0, 0.002) for b in bits]
    law = fit_law(bits, losses, [0.002] * 7)
    assert law["floor"] == pytest.approx(1.2, abs=0.005)
    assert law["rate_ci95"][0] < 1.7 < law["rate_ci95"][1]
    assert law["r2"] > 0.999
    assert max(map(abs, law["residuals"])) < 0.01


def test_interval_of_one_run_is_the_paired_one() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(500, generator=generator) < p for p in (0.8, 0.75))
    one = mean_drop_interval(a.numpy()[None], b.numpy()[None])
    assert one == pytest.approx(paired_drop_interval(a, b), abs=0.21)


def test_interval_widens_where_runs_differ() -> None:
    reference = np.ones((4, 1000), dtype=bool)
    alike, apart = reference.copy(), reference.copy()
    alike[:, :100] = False
    for run, count in enumerate((0, 0, 200, 200)):
        apart[run, :count] = False
    widths = [np.ptp(mean_drop_interval(reference, x)) for x in (alike, apart)]
    assert reference.mean() - alike.mean() == reference.mean() - apart.mean()
    assert widths[1] > 3 * widths[0]


def test_pareto_front_leaves_out_what_another_beats_in_both() -> None:
    assert pareto_front([1, 2, 3, 4, 4], [60, 59, 70, 70, 71]) == [0, 2, 4]
