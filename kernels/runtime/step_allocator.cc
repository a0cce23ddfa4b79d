#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/family.h"
#include "runtime/limits.h"

namespace irk {

struct StepAllocator::Block {
  Block* next;
  size_t mapped;  // bytes, of pages that are not from malloc
};

void* StepAllocator::alloc(int64_t bytes, int64_t align) {
  if (bytes < 0 || bytes > kMaxTensorBytes * 4 || align < 1 || align > 4096 || (align & (align - 1))) return nullptr;
  if (align < 64) align = 64;
  void* p = nullptr;
  if (posix_memalign(&p, static_cast<size_t>(align), static_cast<size_t>(align + bytes)) != 0) return nullptr;
  Block* b = static_cast<Block*>(p);
  *b = {head_, 0};
  head_ = b;
  bytes_ += align + bytes;
  return static_cast<char*>(p) + align;
}

const void* StepAllocator::filled(int8_t value, int64_t bytes) {
  Fill& f = fills_[static_cast<uint8_t>(value)];
  if (f.data && bytes <= f.bytes) return f.data;
  const int64_t more = bytes > 2 * f.bytes ? bytes : 2 * f.bytes;
  char* p;
  if (value) {
    p = static_cast<char*>(alloc(more));
    if (p) memset(p, value, static_cast<size_t>(more));
  } else {
    // Pages that are only read are all the same one.
    constexpr int64_t kHeader = 64;
    const size_t size = static_cast<size_t>(kHeader + more);
    if (bytes < 0 || bytes > kMaxTensorBytes) return nullptr;
    void* const pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return nullptr;
    Block* b = static_cast<Block*>(pages);
    *b = {head_, size};
    head_ = b;
    p = static_cast<char*>(pages) + kHeader;
  }
  if (p) f = {p, more};
  return p;
}

StepAllocator::~StepAllocator() {
  while (head_) {
    Block* next = head_->next;
    if (head_->mapped)
      munmap(head_, head_->mapped);
    else
      free(head_);
    head_ = next;
  }
}

}  // namespace irk
