#pragma once

// What a .ptqx file may say to programs that read image files. The engine itself never looks at it.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/container.h"

namespace ptqx::engine {

/// The image is resized (bilinear, antialiased, aspect kept) until its shorter side has `resize` pixels,
/// its centre is cropped to the input's height and width, and every channel becomes
/// (pixel / 255 - mean) / std.
struct ImageOptions {
  std::vector<float> mean, std;      // one number a channel; std is positive
  int64_t resize = 0;                // 0: the larger of the input's sides
  std::vector<std::string> classes;  // of the outputs, in order; may be empty
};

/// The options in the file, if there are any. Throws Error.
std::optional<ImageOptions> read_image_options(const Container& container);

}  // namespace ptqx::engine
