#include "engine/image_options.h"

#include <algorithm>
#include <cmath>

#include "engine/engine.h"
#include "engine/json.h"

namespace ptqx::engine {
namespace {

using nlohmann::json;

constexpr int64_t kMaxResize = 65535;

const json& array_at(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array())
    throw Error(std::string("image: ") + key + " must be an array");
  return *found;
}

std::vector<float> floats_at(const json& object, const char* key) {
  std::vector<float> values;
  for (const json& value : array_at(object, key)) {
    values.push_back(value.is_number() ? value.get<float>() : NAN);
    if (!std::isfinite(values.back())) throw Error(std::string("image: ") + key + " must be finite numbers");
  }
  return values;
}

}  // namespace

std::optional<ImageOptions> read_image_options(const Container& container) {
  const json document = parse_json(container.graph(), "the graph");
  const auto found = document.is_object() ? document.find("image") : document.end();
  if (found == document.end()) return std::nullopt;
  if (!found->is_object()) throw Error("image must be an object");
  ImageOptions options;
  options.mean = floats_at(*found, "mean");
  options.std = floats_at(*found, "std");
  const bool positive = std::all_of(options.std.begin(), options.std.end(), [](float s) { return s > 0; });
  if (options.mean.size() != options.std.size() || !positive) {
    throw Error("image: std must be positive numbers, as many as mean has");
  }
  const json resize = found->value("resize", json(0));
  if (!resize.is_number_unsigned() || resize > kMaxResize) throw Error("image: resize must be 0 to 65535");
  options.resize = resize.get<int64_t>();
  for (const json& name : array_at(*found, "classes")) {
    if (!name.is_string()) throw Error("image: classes must be names");
    options.classes.push_back(name.get<std::string>());
  }
  return options;
}

}  // namespace ptqx::engine
