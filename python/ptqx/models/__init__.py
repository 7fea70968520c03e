"""Float CNNs, by function or by name, and the checkpoints that fit them."""

from .checkpoint import head_name, load_pretrained, load_weights, replace_head, trained_on
from .cnn import cnn
from .lenet import lenet5
from .registry import TIMM, build, image_options, names, options, parse_options, register
from .resnet import resnet20, resnet32, resnet56
from .vgg import vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn, vgg_small

__all__ = [
    "TIMM",
    "build",
    "cnn",
    "head_name",
    "image_options",
    "lenet5",
    "load_pretrained",
    "load_weights",
    "names",
    "options",
    "parse_options",
    "register",
    "replace_head",
    "resnet20",
    "resnet32",
    "resnet56",
    "trained_on",
    "vgg11_bn",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
    "vgg_small",
]
