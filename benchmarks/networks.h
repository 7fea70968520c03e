#pragma once

// Convolution and linear layers of real networks: VGG-11 and ResNet-20 on images of 32x32, ResNet-50 and
// MobileNetV2 on 224x224. Layers of one shape are listed once.

#include <cstdint>

#include "engine/conv2d.h"

namespace ptqx::benchmarks {

/// A square kernel on a square image, padded by half of the kernel. A linear layer is a 1x1 kernel on one
/// pixel.
struct Layer {
  const char* network;
  const char* name;
  int64_t in_channels, out_channels, kernel, size, stride = 1, groups = 1;

  int64_t pad() const { return kernel / 2; }
  int64_t output_size() const { return (size + 2 * pad() - kernel) / stride + 1; }
  int64_t group_channels() const { return in_channels / groups; }

  engine::Conv2dShape shape() const {
    return {.in_channels = in_channels,
            .out_channels = out_channels,
            .kernel_h = kernel,
            .kernel_w = kernel,
            .stride_h = stride,
            .stride_w = stride,
            .pad_top = pad(),
            .pad_left = pad(),
            .pad_bottom = pad(),
            .pad_right = pad(),
            .groups = groups};
  }
};

inline constexpr Layer kLayers[] = {
    {"vgg11", "conv1", 3, 64, 3, 32},
    {"vgg11", "conv2", 64, 128, 3, 16},
    {"vgg11", "conv3", 128, 256, 3, 8},
    {"vgg11", "conv4", 256, 256, 3, 8},
    {"vgg11", "conv5", 256, 512, 3, 4},
    {"vgg11", "conv6", 512, 512, 3, 4},
    {"vgg11", "conv7", 512, 512, 3, 2},
    {"vgg11", "linear1", 512, 512, 1, 1},
    {"vgg11", "linear3", 512, 100, 1, 1},
    {"resnet20", "conv1", 3, 16, 3, 32},
    {"resnet20", "layer1", 16, 16, 3, 32},
    {"resnet20", "layer2_first", 16, 32, 3, 32, 2},
    {"resnet20", "layer2", 32, 32, 3, 16},
    {"resnet20", "layer3_first", 32, 64, 3, 16, 2},
    {"resnet20", "layer3", 64, 64, 3, 8},
    {"resnet20", "linear", 64, 10, 1, 1},
    {"resnet50", "conv1", 3, 64, 7, 224, 2},
    {"resnet50", "layer1_first_reduce", 64, 64, 1, 56},
    {"resnet50", "layer1_reduce", 256, 64, 1, 56},
    {"resnet50", "layer1_conv", 64, 64, 3, 56},
    {"resnet50", "layer1_expand", 64, 256, 1, 56},
    {"resnet50", "layer2_first_reduce", 256, 128, 1, 56},
    {"resnet50", "layer2_first_conv", 128, 128, 3, 56, 2},
    {"resnet50", "layer2_down", 256, 512, 1, 56, 2},
    {"resnet50", "layer2_reduce", 512, 128, 1, 28},
    {"resnet50", "layer2_conv", 128, 128, 3, 28},
    {"resnet50", "layer2_expand", 128, 512, 1, 28},
    {"resnet50", "layer3_first_reduce", 512, 256, 1, 28},
    {"resnet50", "layer3_first_conv", 256, 256, 3, 28, 2},
    {"resnet50", "layer3_down", 512, 1024, 1, 28, 2},
    {"resnet50", "layer3_reduce", 1024, 256, 1, 14},
    {"resnet50", "layer3_conv", 256, 256, 3, 14},
    {"resnet50", "layer3_expand", 256, 1024, 1, 14},
    {"resnet50", "layer4_first_reduce", 1024, 512, 1, 14},
    {"resnet50", "layer4_first_conv", 512, 512, 3, 14, 2},
    {"resnet50", "layer4_down", 1024, 2048, 1, 14, 2},
    {"resnet50", "layer4_reduce", 2048, 512, 1, 7},
    {"resnet50", "layer4_conv", 512, 512, 3, 7},
    {"resnet50", "layer4_expand", 512, 2048, 1, 7},
    {"resnet50", "linear", 2048, 1000, 1, 1},
    {"mobilenet_v2", "conv1", 3, 32, 3, 224, 2},
    {"mobilenet_v2", "depthwise32", 32, 32, 3, 112, 1, 32},
    {"mobilenet_v2", "project16", 32, 16, 1, 112},
    {"mobilenet_v2", "expand96_112", 16, 96, 1, 112},
    {"mobilenet_v2", "depthwise96_112_down", 96, 96, 3, 112, 2, 96},
    {"mobilenet_v2", "project96_24", 96, 24, 1, 56},
    {"mobilenet_v2", "expand144_56", 24, 144, 1, 56},
    {"mobilenet_v2", "depthwise144_56", 144, 144, 3, 56, 1, 144},
    {"mobilenet_v2", "project144_24", 144, 24, 1, 56},
    {"mobilenet_v2", "depthwise144_56_down", 144, 144, 3, 56, 2, 144},
    {"mobilenet_v2", "project144_32", 144, 32, 1, 28},
    {"mobilenet_v2", "expand192_28", 32, 192, 1, 28},
    {"mobilenet_v2", "depthwise192_28", 192, 192, 3, 28, 1, 192},
    {"mobilenet_v2", "project192_32", 192, 32, 1, 28},
    {"mobilenet_v2", "depthwise192_28_down", 192, 192, 3, 28, 2, 192},
    {"mobilenet_v2", "project192_64", 192, 64, 1, 14},
    {"mobilenet_v2", "expand384_14", 64, 384, 1, 14},
    {"mobilenet_v2", "depthwise384_14", 384, 384, 3, 14, 1, 384},
    {"mobilenet_v2", "project384_64", 384, 64, 1, 14},
    {"mobilenet_v2", "project384_96", 384, 96, 1, 14},
    {"mobilenet_v2", "expand576_14", 96, 576, 1, 14},
    {"mobilenet_v2", "depthwise576_14", 576, 576, 3, 14, 1, 576},
    {"mobilenet_v2", "project576_96", 576, 96, 1, 14},
    {"mobilenet_v2", "depthwise576_14_down", 576, 576, 3, 14, 2, 576},
    {"mobilenet_v2", "project576_160", 576, 160, 1, 7},
    {"mobilenet_v2", "expand960_7", 160, 960, 1, 7},
    {"mobilenet_v2", "depthwise960_7", 960, 960, 3, 7, 1, 960},
    {"mobilenet_v2", "project960_160", 960, 160, 1, 7},
    {"mobilenet_v2", "project960_320", 960, 320, 1, 7},
    {"mobilenet_v2", "head", 320, 1280, 1, 7},
    {"mobilenet_v2", "linear", 1280, 1000, 1, 1},
};

}  // namespace ptqx::benchmarks
