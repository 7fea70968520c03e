"""torchvision's networks, unedited, become integer as a whole."""

from __future__ import annotations

from importlib.util import find_spec

import ptqx
import pytest
import torch
from ptqx.torchvision_shim import import_torchvision
from torch import nn

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


def segmentation(name: str) -> nn.Module:
    build = getattr(import_torchvision("the test").models.segmentation, name)
    aux = {} if name.startswith("lraspp") else {"aux_loss": True}
    return build(weights=None, weights_backbone=None, num_classes=5, **aux).eval()


@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50"]
)
def test_segmentation_networks_are_integer_to_their_last_upsampling(name: str) -> None:
    torch.manual_seed(0)
    model, x = segmentation(name), torch.randn(1, 3, 96, 80)
    qmodel = ptqx.quantize(model, [x], "int8")
    covered = ptqx.coverage(qmodel)
    assert covered.mac_share == 1.0
    assert {row.kind for row in covered.float_rows} <= {"upsample_bilinear2d", "add"}
    expected, got = qmodel(x), ptqx.compile(qmodel, x)(x)
    assert list(got) == list(expected) == list(model(x))
    assert all(torch.equal(got[key], expected[key]) for key in expected)


def test_a_feature_pyramid_of_a_detector_is_integer() -> None:
    torch.manual_seed(0)
    detection = import_torchvision("the test").models.detection
    model = detection.backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None).eval()
    x = torch.randn(1, 3, 96, 96)
    qmodel = ptqx.quantize(model, [x], "int8")
    assert ptqx.coverage(qmodel).mac_share == 1.0
    expected, got = qmodel(x), ptqx.compile(qmodel, x)(x)
    assert list(got) == ["0", "1", "2", "3", "pool"]
    assert all(torch.equal(got[key], expected[key]) for key in expected)
