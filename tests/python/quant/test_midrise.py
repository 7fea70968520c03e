from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.quant import Recipe, Scheme, make_quantizer, quantize_tensor, recipe, resolve

CHANNEL = Scheme(bits=2, granularity="channel", observer="mse")
SCHEMES = {
    "tensor": Scheme(bits=2, observer="mse"),
    "channel": CHANNEL,
    "max-abs": Scheme(bits=2, granularity="channel"),
    "group": Scheme(bits=2, granularity="group", group_size=4),
}
FULL, MIDRISE = torch.tensor([-2.0, -1.0, 0.0, 1.0]), torch.tensor([-1.5, -0.5, 0.5, 1.5])


def weight(seed: int = 0) -> torch.Tensor:
    """Channels of several kinds: normal, two-valued (exact either way), sparse, one-sided, zero, uniform."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(6, 8, 3, 3, generator=generator)
    w[1] = w[1].sign() * 0.7
    w[2] = torch.where(w[2].abs() > 1.5, w[2], 0.0)
    w[3] = -w[3].abs()
    w[4] = 0.0
    w[5] = torch.rand(8, 3, 3, generator=generator) * 2 - 1
    return w


def squared_error(w: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    difference = (quantize_tensor(w, scheme).dequantize().double() - w.double()).square()
    return difference.sum() if scheme.granularity == "tensor" else difference.flatten(1).sum(1)


def forced(scheme: Scheme, midrise: bool) -> Scheme:
    return Scheme(**{**scheme.to_dict(), "midrise": midrise})


@pytest.mark.parametrize("name", SCHEMES)
def test_every_channel_takes_the_levels_with_the_lesser_error(name: str) -> None:
    w, scheme = weight(), SCHEMES[name]
    full, midrise = (squared_error(w, forced(scheme, choice)) for choice in (False, True))
    assert torch.equal(squared_error(w, scheme), torch.minimum(full, midrise))
    chosen = quantize_tensor(w, scheme).parameters["midrise"]
    assert torch.equal(chosen.bool(), (midrise < full).reshape(-1))
    if name == "channel":
        assert chosen.tolist() == [1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("midrise", [False, True])
def test_levels_and_nearest_level(midrise: bool) -> None:
    quantizer = make_quantizer(Scheme(bits=2, midrise=midrise))
    quantizer.set_qparams(torch.tensor([0.25]), torch.tensor([0]))
    levels = (MIDRISE if midrise else FULL) * 0.25
    x = torch.linspace(-1, 1, 1001)
    nearest = (x[:, None] - levels).abs().argmin(1)
    tie = torch.zeros_like(x, dtype=torch.bool)
    for low, high in pairwise(levels.tolist()):
        tie |= (x - (low + high) / 2).abs() < 1e-6
    assert torch.equal(quantizer(x)[~tie], levels[nearest][~tie])
    assert torch.equal(quantizer.quantize(x)[~tie].long() + 2, nearest[~tie])


@pytest.mark.parametrize("kind", ["fixed", "moving_average", "lsq"])
@pytest.mark.parametrize("name", SCHEMES)
def test_forward_codes_and_quantize_agree(name: str, kind: str) -> None:
    w, scheme = weight(), SCHEMES[name]
    quantizer = make_quantizer(scheme, kind, channels=6, groups=2)
    quantizer.fit(w)
    quantizer.eval()
    codes = quantizer.codes_f32(w)
    assert torch.equal(quantizer.quantize(w).float(), codes)
    scale = quantizer.scale.detach()
    shared = 4 if scheme.group_size else 1
    scale = scale.repeat_interleave(shared, -1).reshape(*scale.shape[:1], -1, 1, 1)
    expected = scale * (codes + quantizer.midrise.reshape(-1, 1, 1, 1) / 2)
    assert torch.equal(quantizer(w), expected)
    assert torch.equal(quantize_tensor(w, scheme).dequantize(), expected)


def test_lsq_gradients_by_hand() -> None:
    quantizer = make_quantizer(Scheme(bits=2, midrise=True), "lsq")
    quantizer.set_qparams(torch.tensor([1.0]), torch.tensor([0]))
    x = torch.tensor([0.25, -0.75, 100.0, -100.0, -100.0], requires_grad=True)
    quantizer(x).sum().backward()
    expected = ((0.5 - 0.25) + (-0.5 + 0.75) + 1.5 - 1.5 - 1.5) / 5**0.5
    assert quantizer.learned_scale.grad.item() == pytest.approx(expected)
    assert x.grad.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_state_dict_keeps_the_levels() -> None:
    quantizer, other = (make_quantizer(CHANNEL, channels=6) for _ in range(2))
    quantizer.fit(weight())
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(weight()), quantizer(weight()))


def test_only_four_symmetric_levels_have_the_choice() -> None:
    for scheme in (Scheme(bits=3), Scheme(bits=2, symmetric=False), Scheme(bits=2, narrow=True)):
        assert make_quantizer(scheme).midrise is None
        with pytest.raises(PtqxError, match="midrise=True needs bits=2"):
            forced(scheme, True)
    with pytest.raises(PtqxError, match="midrise: expected None, True or False"):
        Scheme(bits=2, midrise="yes")
    with pytest.raises(PtqxError, match="activations need a code for 0"):
        Recipe(activations=Scheme(bits=2, midrise=True))


def test_recipes_describe_it_and_wider_layers_drop_it() -> None:
    mixed = recipe("w2a4", weights=forced(CHANNEL, True), overrides={"b": {"bits": 4}})
    assert Recipe.from_json(mixed.to_json()) == mixed
    of = {name: resolve(mixed, name, is_edge=name == "edge")[0] for name in ("a", "b", "edge")}
    assert {name: (scheme.bits, scheme.midrise) for name, scheme in of.items() if scheme} == {
        "a": (2, True),
        "b": (4, None),
        "edge": (8, None),
    }
