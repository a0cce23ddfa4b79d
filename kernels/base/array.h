// Owning arrays from malloc that report when memory is out.
#pragma once
#include <stdint.h>
#include <stdlib.h>

namespace irk {

// A zero-filled array of plain T with a size fixed by alloc(). Access outside traps instead of corrupting memory.
template <class T>
class Array {
 public:
  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { free(data_); }

  // False when memory is out or n is negative; the old content is gone either way.
  bool alloc(int64_t n) {
    free(data_);
    data_ = nullptr;
    size_ = 0;
    if (n < 0 || n > INT64_MAX / static_cast<int64_t>(sizeof(T))) return false;
    if (n == 0) return true;
    data_ = static_cast<T*>(calloc(static_cast<size_t>(n), sizeof(T)));
    if (!data_) return false;
    size_ = n;
    return true;
  }

  int64_t size() const { return size_; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  T& operator[](int64_t i) {
    if (i < 0 || i >= size_) __builtin_trap();
    return data_[i];
  }
  const T& operator[](int64_t i) const {
    if (i < 0 || i >= size_) __builtin_trap();
    return data_[i];
  }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace irk
