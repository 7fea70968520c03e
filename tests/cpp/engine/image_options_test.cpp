#include "engine/image_options.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/engine.h"

namespace ptqx::engine {
namespace {

using nlohmann::json;

std::optional<ImageOptions> read(const json& document) {
  const std::vector<uint8_t> bytes = container_bytes(document.dump(), {});
  return read_image_options(Container::view(bytes));
}

json sample() {
  return {{"mean", {0.5, 0.25, 0.125}}, {"std", {1, 2, 0.5}}, {"resize", 256}, {"classes", {"cat", "dög"}}};
}

TEST(ImageOptions, are_read_as_written) {
  const auto options = read({{"image", sample()}});
  ASSERT_TRUE(options.has_value());
  EXPECT_EQ(options->mean, (std::vector<float>{0.5F, 0.25F, 0.125F}));
  EXPECT_EQ(options->std, (std::vector<float>{1.0F, 2.0F, 0.5F}));
  EXPECT_EQ(options->resize, 256);
  EXPECT_EQ(options->classes, (std::vector<std::string>{"cat", "dög"}));
}

TEST(ImageOptions, may_be_missing) { EXPECT_FALSE(read(json::object()).has_value()); }

TEST(ImageOptions, that_make_no_sense_are_refused) {
  const std::pair<const char*, json> changes[] = {
      {"mean", "0.5"},     {"mean", {0.5, 0.5}},    {"mean", {0.5, 0.5, "0"}}, {"mean", {0.5, 0.5, 1e300}},
      {"std", {1, 1}},     {"std", {1, 0, 1}},      {"std", {1, -1, 1}},       {"std", nullptr},
      {"resize", -1},      {"resize", 65536},       {"resize", 1.5},           {"classes", "cat"},
      {"classes", {1, 2}}, {"classes", {{"a", 1}}},
  };
  for (const auto& [key, value] : changes) {
    json image = sample();
    image[key] = value;
    EXPECT_THROW(read({{"image", image}}), Error) << key << " " << value;
  }
  EXPECT_THROW(read({{"image", 3}}), Error);
}

}  // namespace
}  // namespace ptqx::engine
