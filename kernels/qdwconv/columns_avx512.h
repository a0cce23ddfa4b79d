// Vectors of one or several columns for avx512vnni.cc: loads and stores, inside the image and at its edges.
#pragma once
#include <immintrin.h>

#include "base/unroll.h"
#include "qdwconv/qdwconv.h"

namespace irk {
namespace {

// How the columns of a vector lie in memory: some of their channels, or as many as a column of the vector has room for;
// or these are all channels, and the columns follow each other in the output and, for stride 1 or 2, in the input.
enum class Lie { part, whole, dense1, dense2 };

// 64-bit words of every second column, in 64 bytes and in the 64 that end with the last column.
template <int Columns>
IRK_INLINE __m512i second_columns() {
  constexpr int kWords = 8 / Columns;
  constexpr auto at = [](int i) { return i / kWords * 2 * kWords + i % kWords + (i < 4 ? 0 : kWords); };
  return _mm512_setr_epi64(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
}

// One row of a vector: Columns columns, `step` bytes apart.
template <int Columns, Lie lie>
IRK_INLINE __m512i load_row(const int8_t* r, int64_t step, __mmask64 mask) {
  constexpr bool Whole = lie == Lie::whole;
  if constexpr (lie == Lie::dense1) {
    return _mm512_loadu_si512(r);
  } else if constexpr (lie == Lie::dense2) {
    return _mm512_permutex2var_epi64(_mm512_loadu_si512(r), second_columns<Columns>(),
                                     _mm512_loadu_si512(r + 64 - 64 / Columns));
  } else if constexpr (Columns == 1) {
    return Whole ? _mm512_loadu_si512(r) : _mm512_maskz_loadu_epi8(mask, r);
  } else if constexpr (Columns == 2) {
    const auto part = [&](int i) IRK_LAMBDA {
      return Whole ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(r + i * step))
                   : _mm256_maskz_loadu_epi8(static_cast<__mmask32>(mask), r + i * step);
    };
    return _mm512_inserti64x4(_mm512_castsi256_si512(part(0)), part(1), 1);
  } else {
    const auto part = [&](int i) IRK_LAMBDA {
      return Whole ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(r + i * step))
                   : _mm_maskz_loadu_epi8(static_cast<__mmask16>(mask), r + i * step);
    };
    const __m256i lo = _mm256_inserti128_si256(_mm256_castsi128_si256(part(0)), part(1), 1);
    const __m256i hi = _mm256_inserti128_si256(_mm256_castsi128_si256(part(2)), part(3), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
  }
}

// Bytes [lo, hi) of 64.
IRK_INLINE __mmask64 bytes_between(int64_t lo, int64_t hi) {
  const auto below = [](int64_t n) IRK_LAMBDA { return n <= 0 ? 0 : n >= 64 ? ~0ull : (1ull << n) - 1; };
  return below(hi) & ~below(lo);
}

// The same where only columns [lo, hi) are inside the image.
template <int Columns, Lie lie>
IRK_INLINE __m512i load_edge(const int8_t* r, int64_t step, __mmask64 mask, int64_t lo, int64_t hi, __m512i outside) {
  constexpr int kBytes = 64 / Columns;
  if constexpr (lie == Lie::dense1) {
    return _mm512_mask_loadu_epi8(outside, bytes_between(lo * kBytes, hi * kBytes), r);
  } else if constexpr (lie == Lie::dense2) {
    const int64_t first = 2 * lo * kBytes, stop = (2 * hi - 1) * kBytes, move = 64 - kBytes;
    const __m512i a = _mm512_mask_loadu_epi8(outside, bytes_between(first, stop), r);
    const __m512i b = _mm512_mask_loadu_epi8(outside, bytes_between(first - move, stop - move), r + move);
    return _mm512_permutex2var_epi64(a, second_columns<Columns>(), b);
  } else if constexpr (Columns == 1) {
    return lo <= 0 && hi > 0 ? _mm512_mask_loadu_epi8(outside, mask, r) : outside;
  } else if constexpr (Columns == 2) {
    const __m256i none = _mm512_castsi512_si256(outside);
    const auto part = [&](int i) IRK_LAMBDA {
      const bool in = i >= lo && i < hi;
      return _mm256_mask_loadu_epi8(none, in ? static_cast<__mmask32>(mask) : 0, r + i * step);
    };
    return _mm512_inserti64x4(_mm512_castsi256_si512(part(0)), part(1), 1);
  } else {
    const __m128i none = _mm512_castsi512_si128(outside);
    const auto part = [&](int i) IRK_LAMBDA {
      const bool in = i >= lo && i < hi;
      return _mm_mask_loadu_epi8(none, in ? static_cast<__mmask16>(mask) : 0, r + i * step);
    };
    const __m256i a = _mm256_inserti128_si256(_mm256_castsi128_si256(part(0)), part(1), 1);
    const __m256i b = _mm256_inserti128_si256(_mm256_castsi128_si256(part(2)), part(3), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
  }
}

// A vector of outputs: `left` columns of it exist, n channels of each.
template <int Columns, Lie lie>
IRK_INLINE void store_bytes(__m512i v, int8_t* d, int64_t pixel, int64_t left, int64_t n) {
  constexpr bool Whole = lie == Lie::whole;
  const __mmask64 mask = ~0ull >> (64 - n);
  if constexpr (lie == Lie::dense1 || lie == Lie::dense2) {
    if (left >= Columns)
      _mm512_storeu_si512(d, v);
    else if (left > 0)
      _mm512_mask_storeu_epi8(d, ~0ull >> (64 - left * (64 / Columns)), v);
  } else if constexpr (Columns == 1) {
    if (Whole)
      _mm512_storeu_si512(d, v);
    else
      _mm512_mask_storeu_epi8(d, mask, v);
  } else if constexpr (Columns == 2) {
    const auto put = [&](int8_t* to, __m256i part) IRK_LAMBDA {
      if (Whole)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), part);
      else
        _mm256_mask_storeu_epi8(to, static_cast<__mmask32>(mask), part);
    };
    put(d, _mm512_castsi512_si256(v));
    if (left > 1) put(d + pixel, _mm512_extracti64x4_epi64(v, 1));
  } else {
    unroll<4>([&](auto i) IRK_LAMBDA {
      if (left > i) _mm_mask_storeu_epi8(d + i * pixel, static_cast<__mmask16>(mask), _mm512_extracti32x4_epi32(v, i));
    });
  }
}

// Residual bytes of a vector's outputs, gathered with care for the ends of rows.
template <int Columns>
__m512i load_residual(const QDwParams& p, const QDwBlock& b, const int8_t* res, int64_t left) {
  alignas(64) int8_t r[64] = {0};
  for (int64_t i = 0; i < Columns && i < left; i++)
    for (int64_t c = 0; c < b.n; c++) r[i * b.width + c] = res[i * p.c + c];
  return _mm512_load_si512(r);
}

}  // namespace
}  // namespace irk
