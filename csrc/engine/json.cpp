#include "engine/json.h"

#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/text.h"

namespace ptqx::engine {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxValues = size_t{1} << 20;

/// Receives the parser's events and builds the document, so that a limit stops the parser at once.
class StrictBuilder final : public nlohmann::json_sax<json> {
 public:
  explicit StrictBuilder(const std::string& what) : what_(what) {}

  json take() { return std::move(root_); }

  bool null() override { return add(nullptr) != nullptr; }
  bool boolean(bool value) override { return add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override { return add(value) != nullptr; }
  bool string(string_t& value) override { return add(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override { return open(json::object()); }
  bool start_array(size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& value) override {
    if (stack_.back()->contains(value)) fail("has the key " + quote(value) + " twice");
    key_ = std::move(value);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const json::exception&) override {
    fail("is not valid JSON at byte " + std::to_string(position));
  }

 private:
  [[noreturn]] void fail(const std::string& message) const { throw Error(what_ + " " + message); }

  json* add(json value) {
    if (++values_ > kMaxValues) fail("has more than " + std::to_string(kMaxValues) + " JSON values");
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    json& parent = *stack_.back();
    if (parent.is_object()) return &(parent[key_] = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }

  bool open(json container) {
    if (stack_.size() == kMaxDepth) fail("is nested deeper than " + std::to_string(kMaxDepth) + " levels");
    // The parent does not grow while a child is open, so the pointer stays good.
    stack_.push_back(add(std::move(container)));
    return true;
  }

  bool close() {
    stack_.pop_back();
    return true;
  }

  const std::string& what_;
  json root_;
  std::vector<json*> stack_;
  std::string key_;
  size_t values_ = 0;
};

}  // namespace

json parse_json(std::string_view text, const std::string& what) {
  StrictBuilder builder(what);
  json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace ptqx::engine
