#pragma once

namespace ptqx::kernels {
namespace {

/// As many numbers as `Bytes` hold, on which compilers know the operators of one.
template <class Number, int Bytes>
using VectorOf [[gnu::vector_size(Bytes)]] = Number;

}  // namespace
}  // namespace ptqx::kernels
