#include "arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

namespace {

double to_number(const std::string& name, const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    throw std::invalid_argument(name + ": expected a number, got \"" + text + "\"");
  }
  return value;
}

}  // namespace

Arguments::Arguments(int argc, char** argv, const std::vector<std::string>& names) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (!word.starts_with("--")) {
      rest_.push_back(word);
    } else if (std::find(names.begin(), names.end(), word) == names.end()) {
      throw std::invalid_argument("unknown option " + word);
    } else if (i + 1 == argc) {
      throw std::invalid_argument(word + " needs a value");
    } else {
      values_[word] = argv[++i];
    }
  }
}

std::string Arguments::text(const std::string& name, const std::string& otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? otherwise : found->second;
}

double Arguments::number(const std::string& name, double otherwise, double low, double high) const {
  if (!has(name)) return otherwise;
  const double value = to_number(name, values_.at(name));
  if (value < low || value > high) {
    throw std::invalid_argument(name + ": expected " + std::to_string(low) + " to " + std::to_string(high) +
                                ", got " + values_.at(name));
  }
  return value;
}

int64_t Arguments::whole(const std::string& name, int64_t otherwise, int64_t low, int64_t high) const {
  if (!has(name)) return otherwise;
  const double value = to_number(name, values_.at(name));
  if (value != std::floor(value) || value < static_cast<double>(low) || value > static_cast<double>(high)) {
    throw std::invalid_argument(name + ": expected a whole number of " + std::to_string(low) + " to " +
                                std::to_string(high) + ", got " + values_.at(name));
  }
  return static_cast<int64_t>(value);
}

std::vector<float> Arguments::numbers(const std::string& name) const {
  std::vector<float> values;
  const std::string text = this->text(name, "");
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(static_cast<float>(to_number(name, text.substr(begin, end - begin))));
    begin = end + 1;
  }
  return values;
}
