// AVX2: activations and weights widened to int16, pairs summed exactly by vpmaddwd (the u8 x s8 form saturates).
// Tile 6 x 16: twelve accumulators, one broadcast, weights as memory operands.
#include <immintrin.h>
#include <string.h>

#include "base/unroll.h"
#include "qconv/generic.h"

namespace irk {
namespace {

struct Ops256 {
  using Short = QPlainShort<Ops256>;
  using A = int16_t;
  static constexpr int MR = 6, NV = 2, VEC = 8;

  static IRK_INLINE void widen(A* dst, const int8_t* src) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst),
                        _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(src))));
  }
  static IRK_INLINE void copy(A* dst, const int8_t* src, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) widen(dst + i, src + i);
    if (i == n) return;
    if (n >= 16) {
      widen(dst + n - 16, src + n - 16);  // overlaps what is written already, with the same values
      return;
    }
    if (n & 8) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(dst),
                       _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(src))));
      dst += 8, src += 8;
    }
    if (n & 4) {
      int32_t four;
      memcpy(&four, src, 4);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(dst), _mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
      dst += 4, src += 4;
    }
    if (n & 2) dst[0] = src[0], dst[1] = src[1], dst += 2, src += 2;
    if (n & 1) dst[0] = src[0];
  }
  // Writes up to 15 elements too many: what follows is written later, or is slack.
  static IRK_INLINE void fill(A* dst, int64_t n, int32_t zx) {
    const __m256i z = _mm256_set1_epi16(static_cast<short>(zx));
    for (int64_t i = 0; i < n; i += 16) _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i), z);
  }

  template <int M, int NV>
  static void tile(const QTile& t, const QConvParams& p) {
    constexpr int G = (M + 2) / 3;
    __m256i acc[M][NV];
    unroll<M>([&](auto r) IRK_LAMBDA { unroll<NV>([&](auto v) IRK_LAMBDA { acc[r][v] = load(t.bias + 8 * v); }); });
    const char* base[G];  // one pointer serves three rows: base, base + lda, base + 2 * lda
    const int64_t lda = 2 * p.lda;
    unroll<G>([&](auto g) IRK_LAMBDA { base[g] = static_cast<const char*>(t.a) + 3 * g * lda; });
    const char* w = static_cast<const char*>(t.w);
    for (int64_t k = p.steps; k > 0; k--, w += NV * 32) {
      unroll<M>([&](auto r) IRK_LAMBDA {
        int32_t pair;
        memcpy(&pair, base[r / 3] + r % 3 * lda, 4);
        const __m256i b = _mm256_set1_epi32(pair);
        unroll<NV>([&](auto v)
                       IRK_LAMBDA { acc[r][v] = _mm256_add_epi32(acc[r][v], _mm256_madd_epi16(b, load(w + 32 * v))); });
      });
      unroll<G>([&](auto g) IRK_LAMBDA {
        base[g] += 4;
        asm("" : "+r"(base[g]));
      });
    }
    alignas(32) int32_t sums[(M * NV + 3) / 4 * 32];
    constexpr int kMore = (4 - M * NV % 4) % 4;  // a last incomplete group of rows
    unroll<kMore>([&](auto i) IRK_LAMBDA {
      _mm256_store_si256(reinterpret_cast<__m256i*>(sums + (M * NV + i) * 8), _mm256_setzero_si256());
    });
    unroll<M>([&](auto r) IRK_LAMBDA {
      unroll<NV>([&](auto v) IRK_LAMBDA {
        _mm256_store_si256(reinterpret_cast<__m256i*>(sums + (r * NV + v) * 8), acc[r][v]);
      });
    });
    if (p.f32)
      finish_f32<NV>(sums, M, t, p);
    else
      finish<NV>(sums, M, t, p);
  }

  static IRK_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

  // Channels of a 16-wide tile are packed so that vector v, lane i, element e is channel 8i + 4v + e: the saturating
  // packs of two rows then leave whole rows in 64-bit units. Sums go through memory to free the registers.
  template <int NV>
  static void finish(const int32_t* sums, int64_t rows, const QTile& t, const QConvParams& p) {
    constexpr int R = 4 / NV;
    const __m256 limit = _mm256_set1_ps(65536.f);  // far outside int8 whatever the zero point, far inside int32
    const __m256i zy = _mm256_set1_epi16(static_cast<short>(p.zy));
    const __m256i lo = _mm256_set1_epi8(static_cast<char>(p.lo)), hi = _mm256_set1_epi8(static_cast<char>(p.hi));
    const bool wide = p.wide;
    int8_t* d = static_cast<int8_t*>(t.out);
    const int8_t* res = t.res;
    for (; rows > 0; rows -= R, sums += 32, d += R * p.oc) {
      __m256 y[4];
      unroll<R>([&](auto r) IRK_LAMBDA {
        unroll<NV>([&](auto v) IRK_LAMBDA {
          constexpr int i = r * NV + v;
          y[i] = _mm256_mul_ps(_mm256_cvtepi32_ps(load(sums + i * 8)), _mm256_loadu_ps(t.m + 8 * v));
        });
        if (res) {
          residual<NV>(y + r * NV, res, t.n, p);
          if (r + 1 < rows) res += p.oc;  // past the last row the rest of the group repeats it
        }
      });
      if (__builtin_expect(wide, 0)) unroll<4>([&](auto i) IRK_LAMBDA { y[i] = _mm256_min_ps(y[i], limit); });
      __m256i ab = _mm256_packs_epi32(_mm256_cvtps_epi32(y[0]), _mm256_cvtps_epi32(y[1]));
      __m256i cd = _mm256_packs_epi32(_mm256_cvtps_epi32(y[2]), _mm256_cvtps_epi32(y[3]));
      ab = _mm256_adds_epi16(ab, zy);
      cd = _mm256_adds_epi16(cd, zy);
      __m256i b = _mm256_packs_epi16(ab, cd);
      b = _mm256_min_epi8(_mm256_max_epi8(b, lo), hi);
      b = NV == 2 ? _mm256_permute4x64_epi64(b, _MM_SHUFFLE(3, 1, 2, 0))
                  : _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
      if (t.n == 16) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(d), _mm256_castsi256_si128(b));
        if (rows > 1) _mm_storeu_si128(reinterpret_cast<__m128i*>(d + p.oc), _mm256_extracti128_si256(b, 1));
      } else {
        alignas(32) int8_t bytes[32];
        _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), b);
        for (int r = 0; r < R && r < rows; r++) memcpy(d + r * p.oc, bytes + r * 8 * NV, static_cast<size_t>(t.n));
      }
    }
  }

  // Adds the residual of one row: NV * 8 channels, n of them valid.
  template <int NV>
  static IRK_INLINE void residual(__m256* y, const int8_t* r, int64_t n, const QConvParams& p) {
    alignas(16) int8_t bytes[16] = {0};
    if (n < 8 * NV) {
      memcpy(bytes, r, static_cast<size_t>(n));
      r = bytes;
    }
    const __m128i b = NV == 2 ? _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(r)), 0xd8)
                              : _mm_loadl_epi64(reinterpret_cast<const __m128i*>(r));
    unroll<NV>([&](auto v) IRK_LAMBDA {
      const __m256i q = _mm256_cvtepi8_epi32(v == 0 ? b : _mm_unpackhi_epi64(b, b));
      const __m256 f = _mm256_cvtepi32_ps(_mm256_sub_epi32(q, _mm256_set1_epi32(p.zr)));
      y[v] = _mm256_add_ps(y[v], _mm256_mul_ps(f, _mm256_set1_ps(p.mr)));
    });
  }

  template <int NV>
  static void finish_f32(const int32_t* sums, int64_t rows, const QTile& t, const QConvParams& p) {
    float* d = static_cast<float*>(t.out);
    for (; rows > 0; rows--, sums += NV * 8, d += p.oc) {
      __m256 y[2];
      unroll<NV>([&](auto v) IRK_LAMBDA {
        y[v] = _mm256_mul_ps(_mm256_cvtepi32_ps(load(sums + v * 8)), _mm256_loadu_ps(t.m + 8 * v));
      });
      alignas(32) float f[16];
      _mm256_store_ps(f, NV == 2 ? _mm256_permute2f128_ps(y[0], y[NV - 1], 0x20) : y[0]);
      if (NV == 2) _mm256_store_ps(f + 8, _mm256_permute2f128_ps(y[0], y[NV - 1], 0x31));
      memcpy(d, f, static_cast<size_t>(t.n) * 4);
    }
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_avx2(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_run<irk::Ops256>(bufs, params, begin, end);
}
