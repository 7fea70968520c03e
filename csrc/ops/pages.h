#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ptqx::ops {

/// Tells the system that these bytes are not needed soon. Their values stay: pages of a file are read again
/// when somebody looks, others may go to swap. Nothing happens to less than 64 KiB, or where
/// the system knows no such request.
void release_pages(std::span<const uint8_t> bytes);

/// Bytes of the pages that are in main memory now, those that only the system's file cache holds included.
size_t resident_bytes(std::span<const uint8_t> bytes);

}  // namespace ptqx::ops
