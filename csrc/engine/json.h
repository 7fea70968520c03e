#pragma once

// JSON that strangers may have written. Private to the engine: no public header includes it.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace ptqx::engine {

/// Parses one JSON document. Refuses what a writer of .ptqx never makes: duplicate keys, nesting deeper
/// than 32, more than 2^20 values. `what` names the document in the Error.
nlohmann::json parse_json(std::string_view text, const std::string& what);

}  // namespace ptqx::engine
