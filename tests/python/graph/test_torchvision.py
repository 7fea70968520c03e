"""torchvision's networks, unedited, become integer as a whole."""

from __future__ import annotations

from importlib.util import find_spec

import ptqx
import pytest
import torch

pytestmark = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")

SIZES = {
    "resnet18": 224,
    "mobilenet_v2": 224,
    "mobilenet_v3_small": 64,
    "shufflenet_v2_x1_0": 64,
    "squeezenet1_0": 64,
    "efficientnet_b0": 64,
    "googlenet": 64,
    "convnext_tiny": 64,
}


@pytest.mark.parametrize("name", SIZES)
def test_every_multiplication_is_integer_and_the_engine_equals_the_integer_model(name: str) -> None:
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = ptqx.models.build(name, 10, **options).eval()
    x = torch.randn(1, 3, SIZES[name], SIZES[name])
    qmodel = ptqx.quantize(model, [x], "int8")
    covered = ptqx.coverage(qmodel)
    assert covered.mac_share == 1.0
    assert {row.kind for row in covered.float_rows} <= {"layer_norm"}
    assert torch.equal(ptqx.compile(qmodel, x)(x), qmodel(x))
