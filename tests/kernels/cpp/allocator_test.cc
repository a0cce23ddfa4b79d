// Memory of a loaded model: every block of its own, aligned, in the block that was announced, and what was announced
// but not asked for is given back.
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "runtime/family.h"
#include "runtime/limits.h"

namespace {

constexpr int64_t kMega = 1 << 20;
#if defined(__SANITIZE_ADDRESS__) || !defined(MADV_HUGEPAGE)
constexpr bool kExpects = false;  // each block on its own
#else
constexpr bool kExpects = true;
#endif

uint32_t g_state = 1;

int64_t any(int64_t n) {
  g_state = g_state * 1664525u + 1013904223u;
  return static_cast<int64_t>(g_state >> 8) % n;
}

// Blocks of all sizes, each filled with its number: none is written over by another.
void blocks_of_their_own() {
  constexpr int kBlocks = 400;
  const int64_t announced[] = {0, 100 * kMega, 3 * kMega};  // none, more and fewer than will be asked for
  for (const int64_t expected : announced) {
    irk::StepAllocator a;
    a.expect(expected);
    unsigned char* at[kBlocks];
    int64_t size[kBlocks], sum = 0;
    for (int i = 0; i < kBlocks; i++) {
      const int64_t align = int64_t{1} << any(13);
      size[i] = any(i % 20 ? 5000 : 700000);
      at[i] = static_cast<unsigned char*>(a.alloc(size[i], align));
      CHECK(at[i] && reinterpret_cast<intptr_t>(at[i]) % (align > 64 ? align : 64) == 0);
      memset(at[i], i & 255, static_cast<size_t>(size[i]));
      sum += size[i];
    }
    a.trim();
    int bad = 0;
    for (int i = 0; i < kBlocks; i++)
      for (int64_t k = 0; k < size[i]; k++) bad += at[i][k] != (i & 255);
    CHECK(bad == 0);
    CHECK(a.bytes() >= sum && a.bytes() < sum + kBlocks * int64_t{5000});
  }
}

void what_is_refused() {
  irk::StepAllocator a;
  CHECK(!a.alloc(-1) && !a.alloc(irk::kMaxTensorBytes * 4 + 1) && !a.alloc(INT64_MAX));
  CHECK(!a.alloc(8, 0) && !a.alloc(8, -64) && !a.alloc(8, 96) && !a.alloc(8, 8192));
  CHECK(!a.filled(0, -1) && !a.filled(0, irk::kMaxTensorBytes + 1));
  CHECK(a.bytes() == 0);
  CHECK(a.alloc(0) && a.alloc(1, 1) && a.alloc(1, 4096));  // no bytes have a place as well
  const int64_t before = a.bytes();
  CHECK(a.alloc(kMega) && a.bytes() == before + kMega + 64);  // with what finds the block again
}

// All of what was announced comes from one block, in order; more than that from elsewhere.
void one_block() {
  irk::StepAllocator a;
  a.expect(5 * kMega);
  char* const first = static_cast<char*>(a.alloc(100));
  CHECK(reinterpret_cast<intptr_t>(first) % (2 * kMega) == 0);  // a huge page can be there
  a.expect(50 * kMega);                                         // too late, and no harm
  char* last = first;
  for (int64_t asked = 100; asked < 5 * kMega - 300000; asked += 300000) {
    char* const p = static_cast<char*>(a.alloc(300000));
    CHECK(p > last && p < first + 5 * kMega);
    last = p;
  }
  char* const beyond = static_cast<char*>(a.alloc(kMega));
  CHECK(beyond && (beyond + kMega <= first || beyond >= first + 5 * kMega));
  memset(beyond, 1, kMega);
}

// Pages behind the last block are given back, whatever was in them; the blocks stay as they are.
void given_back() {
  irk::StepAllocator a;
  a.expect(8 * kMega);
  char* const p = static_cast<char*>(a.alloc(kMega + 1));
  memset(p, 7, kMega + 1);
  char* const unused = p + 2 * kMega;
  memset(unused, 9, 6 * kMega);
  a.trim();
  int bad = 0;
  for (int64_t i = 0; i < 6 * kMega; i++) bad += unused[i] != 0;
  for (int64_t i = 0; i <= kMega; i++) bad += p[i] != 7;
  CHECK(bad == 0);
  char* const q = static_cast<char*>(a.alloc(kMega));  // and can still be asked for
  CHECK(q > p && q < unused);
  memset(q, 8, kMega);
  CHECK(p[kMega] == 7);
}

// A block in small pages has them before anyone writes; nothing to see where the system does not do so.
bool resident(char* begin, int64_t bytes) {
  const intptr_t page = sysconf(_SC_PAGESIZE);
  char* const from = begin + (-reinterpret_cast<intptr_t>(begin) & (page - 1));
  const int64_t pages = (begin + bytes - from) / page;
  unsigned char in[1024];
  CHECK(pages <= 1024);
  if (mincore(from, static_cast<size_t>(pages * page), in) != 0) return false;
  int64_t held = 0;
  for (int64_t i = 0; i < pages; i++) held += in[i] & 1;
  return held == pages;
}

bool system_populates() {
#if defined(MADV_POPULATE_WRITE)
  void* const probe = mmap(nullptr, kMega, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (probe == MAP_FAILED) return false;
  char* const p = static_cast<char*>(probe);
  const bool before = resident(p, kMega);
  const bool after = madvise(probe, kMega, MADV_POPULATE_WRITE) == 0 && resident(p, kMega);
  munmap(probe, kMega);
  return after && !before;
#else
  return false;
#endif
}

void small_pages_are_there() {
  irk::StepAllocator a;
  a.expect(3 * kMega);
  CHECK(a.alloc(2 * kMega) != nullptr);  // a huge page
  char* const p = static_cast<char*>(a.alloc(kMega / 2));
  CHECK(p && resident(p, kMega / 2));
}

// Blocks of one value are shared; zeros take no memory.
void filled() {
  irk::StepAllocator a;
  const auto* zeros = static_cast<const int8_t*>(a.filled(0, 10 * kMega));
  CHECK(zeros && a.bytes() == 0 && a.filled(0, 5) == zeros && a.filled(0, 10 * kMega) == zeros);
  const auto* ones = static_cast<const int8_t*>(a.filled(1, 1000));
  CHECK(ones && a.bytes() >= 1000 && a.filled(1, 999) == ones && a.filled(-1, 1) != ones);
  const auto* more = static_cast<const int8_t*>(a.filled(1, 1001));
  int bad = 0;
  for (int64_t i = 0; i < 10 * kMega; i += 4095) bad += zeros[i] != 0;
  for (int i = 0; i < 1000; i++) bad += ones[i] != 1;
  for (int i = 0; i < 1001; i++) bad += more[i] != 1;
  CHECK(bad == 0 && more != ones);
}

}  // namespace

int main() {
  blocks_of_their_own();
  what_is_refused();
  if (kExpects) {
    one_block();
    given_back();
    if (system_populates()) small_pages_are_there();
  }
  filled();
  return report("allocator_test");
}
