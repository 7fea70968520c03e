#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// Pixels as [height][width][red, green, blue].
struct Image {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> pixels;
};

/// Reads a JPEG or PNG file, told apart by its first bytes; transparency is dropped. Throws
/// std::runtime_error that names the file and what is wrong with it.
Image read_image(const std::string& path);
