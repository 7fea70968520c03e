"""torchvision's networks, unedited, become integer as a whole."""

from __future__ import annotations

from importlib.util import find_spec

import ptqx
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.torchvision_shim import import_torchvision
from torch import Tensor, nn

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


class Segmentation(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        build = getattr(import_torchvision("the test").models.segmentation, name)
        self.model = build(weights=None, weights_backbone=None, num_classes=5)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)["out"]


@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50"]
)
def test_segmentation_networks_are_integer_to_their_last_upsampling(name: str) -> None:
    torch.manual_seed(0)
    model, x = Segmentation(name).eval(), torch.randn(1, 3, 96, 80)
    qmodel = ptqx.quantize(model, [x], "int8")
    covered = ptqx.coverage(qmodel)
    assert covered.mac_share == 1.0
    assert {row.kind for row in covered.float_rows} <= {"upsample_bilinear2d", "add"}
    assert torch.equal(ptqx.compile(qmodel, x)(x), qmodel(x))


def test_models_that_return_dicts_are_told_what_to_give() -> None:
    model = Segmentation("lraspp_mobilenet_v3_large").model.eval()
    with pytest.raises(PtqxError, match=r"forward returns model\(x\)\['out'\]"):
        ptqx.prepare(model, "int8", torch.randn(1, 3, 96, 80))
