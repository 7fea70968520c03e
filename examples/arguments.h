#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

/// A command line: `--name VALUE` options anywhere, the rest in order.
class Arguments {
 public:
  /// Throws std::invalid_argument if an option is not one of `names` or has no value.
  Arguments(int argc, char** argv, const std::vector<std::string>& names);

  const std::vector<std::string>& rest() const { return rest_; }
  bool has(const std::string& name) const { return values_.contains(name); }
  std::string text(const std::string& name, const std::string& otherwise) const;
  /// These throw std::invalid_argument if the value is no number or out of range.
  int64_t whole(const std::string& name, int64_t otherwise, int64_t low, int64_t high) const;
  double number(const std::string& name, double otherwise, double low, double high) const;
  std::vector<float> numbers(const std::string& name) const;  // separated by commas

 private:
  std::map<std::string, std::string> values_;
  std::vector<std::string> rest_;
};
