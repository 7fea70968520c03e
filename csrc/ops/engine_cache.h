#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "engine/engine.h"

namespace ptqx::ops {

/// The engine of the .ptqx file in `program`, uint8 [bytes], built on first sight. Programs are told
/// apart by their bytes; a tensor that was seen before and not written since is not read again.
/// Any number of threads may ask at a time. An unusable file is c10::ValueError.
std::shared_ptr<const engine::Engine> cached_engine(const at::Tensor& program);

}  // namespace ptqx::ops
