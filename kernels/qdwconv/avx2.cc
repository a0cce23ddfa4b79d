// AVX2: pairs of rows widened to int16; a vector holds two taps of eight channels, summed exactly by vpmaddwd.
#include <immintrin.h>
#include <string.h>

#include "base/unroll.h"
#include "qdwconv/generic.h"

namespace irk {
namespace {

struct Ops {
  static constexpr int kDepth = 2, kVectors = 2, kVectorBytes = 32;

  // Sixteen channels, or the first n of them without touching what lies behind.
  static IRK_INLINE __m128i load(const int8_t* p, int64_t n) {
    if (__builtin_expect(n == 16, 1)) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    alignas(16) int8_t bytes[16] = {0};
    memcpy(bytes, p, static_cast<size_t>(n));
    return _mm_load_si128(reinterpret_cast<const __m128i*>(bytes));
  }

  static void interleave(const QDwParams& p, const QDwBlock& b, const int8_t* const* rows, int64_t col, int64_t count,
                         char* dst) {
    const __m256i zx = _mm256_set1_epi16(static_cast<short>(p.zx));
    for (int64_t i = 0; i < count; i++, col += p.sw, dst += 32) {
      const bool inside = col >= 0 && col < p.iw;
      const __m256i u = inside && rows[0] ? _mm256_cvtepi8_epi16(load(rows[0] + col * p.c, b.n)) : zx;
      const __m256i v = inside && rows[1] ? _mm256_cvtepi8_epi16(load(rows[1] + col * p.c, b.n)) : zx;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), _mm256_unpacklo_epi16(u, v));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + b.vector), _mm256_unpackhi_epi16(u, v));
    }
  }

  // Sums of U columns; they go through memory so that the epilogue does not compete for registers with this loop.
  template <int U>
  static IRK_INLINE void sum_taps(const QDwParams& p, const QDwBlock& b, int64_t vector, const int64_t* offsets,
                                  const char* src, const uint8_t* w, int32_t* sums) {
    __m256i acc[U][2];
    unroll<2>([&](auto q) IRK_LAMBDA {
      acc[0][q] = loadu(p.bias + b.lanes + 8 * q);
      unroll<U - 1>([&](auto u) IRK_LAMBDA { acc[u + 1][q] = acc[0][q]; });
    });
    for (int64_t k = 0; k < p.taps; k++, w += 64) {
      const char* t = src + offsets[k];
      unroll<2>([&](auto q) IRK_LAMBDA {
        const __m256i wq = loadu(w + 32 * q);
        unroll<U>([&](auto u) IRK_LAMBDA {
          acc[u][q] = _mm256_add_epi32(acc[u][q], _mm256_madd_epi16(loadu(t + 32 * u), wq));
        });
        t += vector;
      });
    }
    unroll<U>([&](auto u) IRK_LAMBDA {
      unroll<2>([&](auto q)
                    IRK_LAMBDA { _mm256_store_si256(reinterpret_cast<__m256i*>(sums + 16 * u + 8 * q), acc[u][q]); });
    });
  }

  static IRK_INLINE __m256i loadu(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

  // Sixteen sums to outputs: lane i of vector q holds channels 8i + 4q .., so the first pack restores memory order.
  static void finish(const QDwParams& p, const QDwBlock& b, const int32_t* sums, char* out, const int8_t* res) {
    __m256 y[2];
    unroll<2>([&](auto q) IRK_LAMBDA {
      y[q] = _mm256_mul_ps(_mm256_cvtepi32_ps(loadu(sums + 8 * q)), _mm256_loadu_ps(p.m + b.lanes + 8 * q));
    });
    if (__builtin_expect(p.f32, 0)) {
      alignas(32) float all[16];
      _mm256_store_ps(all, _mm256_permute2f128_ps(y[0], y[1], 0x20));
      _mm256_store_ps(all + 8, _mm256_permute2f128_ps(y[0], y[1], 0x31));
      memcpy(out, all, static_cast<size_t>(b.n) * 4);
      return;
    }
    if (res) {
      const __m128i r = _mm_shuffle_epi32(load(res, b.n), 0xd8);  // channels of vector 0, then of vector 1
      unroll<2>([&](auto q) IRK_LAMBDA {
        const __m256i wide = _mm256_cvtepi8_epi32(q == 0 ? r : _mm_unpackhi_epi64(r, r));
        const __m256 f = _mm256_cvtepi32_ps(_mm256_sub_epi32(wide, _mm256_set1_epi32(p.zr)));
        y[q] = _mm256_add_ps(y[q], _mm256_mul_ps(f, _mm256_set1_ps(p.mr)));
      });
    }
    if (__builtin_expect(p.wide, 0)) {
      const __m256 limit = _mm256_set1_ps(65536.f);  // far outside int8, far inside int32
      unroll<2>([&](auto q) IRK_LAMBDA { y[q] = _mm256_min_ps(y[q], limit); });
    }
    __m256i h = _mm256_packs_epi32(_mm256_cvtps_epi32(y[0]), _mm256_cvtps_epi32(y[1]));
    h = _mm256_adds_epi16(h, _mm256_set1_epi16(static_cast<short>(p.zy)));
    __m128i v = _mm_packs_epi16(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    v = _mm_max_epi8(v, _mm_set1_epi8(static_cast<char>(p.lo)));
    v = _mm_min_epi8(v, _mm_set1_epi8(static_cast<char>(p.hi)));
    if (__builtin_expect(b.n == 16, 1)) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), v);
    } else {
      alignas(16) int8_t bytes[16];
      _mm_store_si128(reinterpret_cast<__m128i*>(bytes), v);
      memcpy(out, bytes, static_cast<size_t>(b.n));
    }
  }

  static void outputs(const QDwParams& p, const QDwBlock& b, const int64_t* offsets, const char* src, const uint8_t* w,
                      int64_t count, char* out, const int8_t* res) {
    alignas(32) int32_t sums[4 * 16];
    const int64_t size = p.f32 ? 4 : 1;
    while (count > 0) {
      const int64_t n = count >= 4 ? 4 : count >= 2 ? 2 : 1;
      if (n == 4)
        sum_taps<4>(p, b, b.vector, offsets, src, w, sums);
      else if (n == 2)
        sum_taps<2>(p, b, b.vector, offsets, src, w, sums);
      else
        sum_taps<1>(p, b, b.vector, offsets, src, w, sums);
      for (int64_t u = 0; u < n; u++) {
        finish(p, b, sums + 16 * u, out, res);
        out += p.c * size;
        if (res) res += p.c;
      }
      count -= n;
      src += n * 32;
    }
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qdwconv_s8s8_avx2(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qdw_run<irk::Ops>(bufs, params, begin, end);
}
