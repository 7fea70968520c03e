#include "ops/tensor_cache.h"

namespace ptqx::ops {

TensorIdentity::TensorIdentity(const at::Tensor& tensor)
    : storage_(tensor.storage().getWeakStorageImpl()),
      counts_writes_(!tensor.is_inference()),
      version_(counts_writes_ ? tensor._version() : 0),
      type_(tensor.scalar_type()),
      offset_(tensor.storage_offset()),
      sizes_(tensor.sizes().vec()),
      strides_(tensor.strides().vec()) {}

bool TensorIdentity::operator==(const TensorIdentity& other) const {
  return counts_writes_ && other.counts_writes_ && storage_ == other.storage_ && version_ == other.version_ &&
         type_ == other.type_ && offset_ == other.offset_ && sizes_ == other.sizes_ &&
         strides_ == other.strides_;
}

}  // namespace ptqx::ops
