#pragma once

#include <vector>

#include "engine/image_options.h"
#include "image_file.h"

/// The network's input, [channels][height][width] = `shape`, of an image: see ptqx::engine::ImageOptions.
/// One channel is luma, (19595 red + 38470 green + 7471 blue) / 65536 rounded. Throws std::runtime_error.
std::vector<float> image_input(const Image& image, const ptqx::engine::ImageOptions& options,
                               const std::vector<int64_t>& shape);
