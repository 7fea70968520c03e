#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/enum_tag.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

namespace ptqx::ops {

/// Inputs of any strides are read, and the strides of the outputs do not depend on them.
inline const std::vector<at::Tag> kAnyStrides{at::Tag::pt2_compliant_tag, at::Tag::flexible_layout};
/// The outputs have the strides of an input: a compiler may not change those behind our back.
inline const std::vector<at::Tag> kExactStrides{at::Tag::pt2_compliant_tag, at::Tag::needs_exact_strides};

/// For calls of operators by operators, which compilers then see.
template <class Signature>
c10::TypedOperatorHandle<Signature> find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

/// For the key Autograd of an operator without derivatives: backward says so, by name.
inline torch::CppFunction no_derivative() { return torch::autograd::autogradNotImplementedFallback(); }

}  // namespace ptqx::ops
