#pragma once

// Parts of error messages and descriptions. Private to the engine.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ptqx::engine {

/// A name from a file in quotes: on one line, of bounded length.
std::string quote(std::string_view name);

/// "64,3,3,3"
std::string join(const std::vector<int64_t>& numbers, const char* separator);

}  // namespace ptqx::engine
