#pragma once

#include <ATen/core/Tensor.h>

#include <list>
#include <mutex>
#include <optional>
#include <vector>

namespace ptqx::ops {

/// A tensor's values as far as torch can tell them apart without reading them: its memory, how it is seen,
/// and how often torch has written to it. The weak reference keeps the identity of the storage from being
/// given to another one, not its memory. Writes that torch does not count (through `.data`, or NumPy) go
/// unnoticed.
class TensorIdentity {
 public:
  explicit TensorIdentity(const at::Tensor& tensor);

  /// Inference tensors do not count their writes; their identity equals none, not even itself.
  bool counts_writes() const { return counts_writes_; }
  bool expired() const { return storage_.expired(); }
  bool operator==(const TensorIdentity& other) const;

 private:
  c10::weak_intrusive_ptr<c10::StorageImpl> storage_;
  bool counts_writes_;
  int64_t version_;
  at::ScalarType type_;
  int64_t offset_;
  std::vector<int64_t> sizes_, strides_;
};

/// What was made of tensors, the latest used first, as long as they live and are not written to. The oldest
/// go when the sizes exceed a capacity. Any number of threads may ask at a time.
template <class Key, class Value>
class TensorCache {
 public:
  explicit TensorCache(size_t capacity) : capacity_(capacity) {}

  /// The value made of that tensor with an equal key.
  std::optional<Value> find(const TensorIdentity& identity, const Key& key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    erase_dead();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
      if (entry->identity == identity && entry->key == key) {
        entries_.splice(entries_.begin(), entries_, entry);
        return entry->value;
      }
    }
    return std::nullopt;
  }

  /// Any value for which matches(key, value) holds.
  template <class Predicate>
  std::optional<Value> find_if(const Predicate& matches) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const Entry& entry : entries_) {
      if (matches(entry.key, entry.value)) return entry.value;
    }
    return std::nullopt;
  }

  /// Frees what was made of tensors that live no more; find() does so, too.
  void forget_dead() {
    const std::lock_guard<std::mutex> lock(mutex_);
    erase_dead();
  }

  void insert(const TensorIdentity& identity, const Key& key, const Value& value, size_t size) {
    const std::lock_guard<std::mutex> lock(mutex_);
    entries_.push_front({identity, key, value, size});
    size_ += size;
    while (size_ > capacity_ && entries_.size() > 1) {
      size_ -= entries_.back().size;
      entries_.pop_back();
    }
  }

 private:
  struct Entry {
    TensorIdentity identity;
    Key key;
    Value value;
    size_t size;
  };

  void erase_dead() {
    entries_.remove_if([this](const Entry& entry) {
      if (!entry.identity.expired()) return false;
      size_ -= entry.size;
      return true;
    });
  }

  const size_t capacity_;
  size_t size_ = 0;
  std::mutex mutex_;
  std::list<Entry> entries_;
};

}  // namespace ptqx::ops
