#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/family.h"
#include "runtime/limits.h"

namespace irk {

namespace {

constexpr int64_t kLine = 64;
#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kChunkBytes = 0;  // each on its own, between red zones
#else
constexpr int64_t kChunkBytes = 1 << 18;
#endif

constexpr int64_t kHuge = 2 << 20;
constexpr int64_t kPopulate = 32 << 10;  // bytes from which a call for their pages is quicker than their faults

}  // namespace

struct StepAllocator::Block {
  Block* next;
  size_t mapped;  // bytes, of pages that are not from malloc
};

// One block, in huge pages as far as these will be full: to get memory in small ones takes several times as long, and
// kernels walk huge ones faster.
void StepAllocator::expect(int64_t bytes) {
#if defined(MADV_HUGEPAGE)
  if (kChunkBytes == 0 || left_ > 0 || bytes < kChunkBytes || bytes > kMaxTensorBytes) return;
  const int64_t size = bytes + bytes / 16;  // what is never touched takes no memory
  void* const pages = mmap(nullptr, static_cast<size_t>(size + kHuge), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) return;
  Block* const b = static_cast<Block*>(pages);
  *b = {head_, static_cast<size_t>(size + kHuge)};
  head_ = b;
  char* const begin = static_cast<char*>(pages) + kLine;
  free_ = begin + (-reinterpret_cast<intptr_t>(begin) & (kHuge - 1));
  left_ = size;
  end_ = free_ + size;
  small_ = free_ + bytes / kHuge * kHuge;
  if (small_ > free_) madvise(free_, static_cast<size_t>(small_ - free_), MADV_HUGEPAGE);
#else
  (void)bytes;
#endif
}

void StepAllocator::trim() {
  constexpr int64_t kPage = 1 << 16;  // of any system
  char* const used = free_ + (-reinterpret_cast<intptr_t>(free_) & (kPage - 1));
  if (end_ && free_ + left_ == end_ && used < end_) madvise(used, static_cast<size_t>(end_ - used), MADV_DONTNEED);
}

// Small pages of what expect() made, all at once instead of one fault each; for what is going to be filled anyway.
void StepAllocator::touch(char* begin, int64_t bytes) const {
#if defined(MADV_POPULATE_WRITE)
  if (bytes < kPopulate || begin + bytes > end_ || begin < small_) return;
  const intptr_t page = sysconf(_SC_PAGESIZE), skip = -reinterpret_cast<intptr_t>(begin) & (page - 1);
  const int64_t whole = (bytes - skip) / page * page;
  if (whole > 0) madvise(begin + skip, static_cast<size_t>(whole), MADV_POPULATE_WRITE);
#else
  (void)begin, (void)bytes;
#endif
}

void* StepAllocator::alloc(int64_t bytes, int64_t align) {
  if (bytes < 0 || bytes > kMaxTensorBytes * 4 || align < 1 || align > 4096 || (align & (align - 1))) return nullptr;
  if (align < kLine) align = kLine;
  const int64_t size = (bytes + kLine - 1) / kLine * kLine;
  int64_t skip = -reinterpret_cast<intptr_t>(free_) & (align - 1);
  char* p = free_ + skip;
  if (!free_ || skip + size > left_) {
    // A chunk of which much is left is kept. What is left of it in the end was never touched: it takes no memory.
    const bool own = size > kChunkBytes / 4;
    const int64_t room = own ? size : kChunkBytes;
    void* chunk = nullptr;
    if (posix_memalign(&chunk, static_cast<size_t>(align), static_cast<size_t>(align + room)) != 0) return nullptr;
    Block* b = static_cast<Block*>(chunk);
    *b = {head_, 0};
    head_ = b;
    p = static_cast<char*>(chunk) + align;
    skip = 0;
    bytes_ += align;
    if (own) {
      bytes_ += size;
      return p;
    }
    left_ = room;
  }
  touch(p, size);
  free_ = p + size;
  left_ -= skip + size;
  bytes_ += skip + size;
  return p;
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
    const size_t size = static_cast<size_t>(kLine + more);
    if (bytes < 0 || bytes > kMaxTensorBytes) return nullptr;
    void* const pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return nullptr;
    Block* b = static_cast<Block*>(pages);
    *b = {head_, size};
    head_ = b;
    p = static_cast<char*>(pages) + kLine;
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
