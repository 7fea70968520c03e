#include "engine/text.h"

namespace ptqx::engine {

std::string quote(std::string_view name) {
  constexpr size_t kMaxLength = 80;
  std::string text = "'";
  for (const char c : name.substr(0, kMaxLength)) {
    const auto code = static_cast<unsigned char>(c);
    text += code < 0x20 || code == 0x7f ? '?' : c;
  }
  text += name.size() > kMaxLength ? "...'" : "'";
  return text;
}

std::string join(const std::vector<int64_t>& numbers, const char* separator) {
  std::string text;
  for (const int64_t number : numbers) {
    if (!text.empty()) text += separator;
    text += std::to_string(number);
  }
  return text;
}

}  // namespace ptqx::engine
