// Transposition of matrices of 4-byte words, which is most of what packing weights is. For files that are compiled for
// every CPU: vectors of 16 bytes, which all of them have.
#pragma once
#include <stdint.h>
#include <string.h>

namespace irk {
namespace {

typedef uint32_t Words __attribute__((vector_size(16)));

#if defined(__clang__)
#define IRK_PICK(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define IRK_PICK(a, b, i, j, k, l) __builtin_shuffle(a, b, Words{i, j, k, l})
#endif

inline Words load_words(const void* p) {
  Words v;
  memcpy(&v, p, sizeof v);
  return v;
}

// Word i of row r, r < 4, goes to dst + i * step + 4 * r. Rows lie `row` bytes apart.
inline void turn_four(const void* src, int64_t row, int64_t words, void* dst, int64_t step) {
  const char* from = static_cast<const char*>(src);
  char* to = static_cast<char*>(dst);
  int64_t i = 0;
  for (; i + 4 <= words; i += 4, from += 16, to += 4 * step) {
    const Words a = load_words(from), b = load_words(from + row);
    const Words c = load_words(from + 2 * row), d = load_words(from + 3 * row);
    const Words ab0 = IRK_PICK(a, b, 0, 4, 1, 5), ab1 = IRK_PICK(a, b, 2, 6, 3, 7);
    const Words cd0 = IRK_PICK(c, d, 0, 4, 1, 5), cd1 = IRK_PICK(c, d, 2, 6, 3, 7);
    const Words out[4] = {IRK_PICK(ab0, cd0, 0, 1, 4, 5), IRK_PICK(ab0, cd0, 2, 3, 6, 7),
                          IRK_PICK(ab1, cd1, 0, 1, 4, 5), IRK_PICK(ab1, cd1, 2, 3, 6, 7)};
    for (int k = 0; k < 4; k++) memcpy(to + k * step, &out[k], 16);
  }
  for (; i < words; i++, from += 4, to += step)
    for (int r = 0; r < 4; r++) memcpy(to + 4 * r, from + r * row, 4);
}

#undef IRK_PICK

// The same for any number of rows, which lie `row` bytes apart: dst + i * step + 4 * r.
inline void turn_words(const void* src, int64_t row, int64_t rows, int64_t words, void* dst, int64_t step) {
  constexpr int64_t kBlock = 64;  // words that are read of a row at a time: some cache lines
  const char* from = static_cast<const char*>(src);
  char* to = static_cast<char*>(dst);
  for (int64_t i = 0; i < words; i += kBlock) {
    const int64_t n = words - i < kBlock ? words - i : kBlock;
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) turn_four(from + r * row + 4 * i, row, n, to + i * step + 4 * r, step);
    for (; r < rows; r++)
      for (int64_t k = 0; k < n; k++) memcpy(to + (i + k) * step + 4 * r, from + r * row + 4 * (i + k), 4);
  }
}

}  // namespace
}  // namespace irk
