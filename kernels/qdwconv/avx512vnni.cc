// AVX-512 VNNI: groups of four rows; a vector holds four taps of sixteen channels. 64 channels of one column, or 32 of
// two, or 16 of four: the interleave works within 128-bit lanes, so a lane may come from another column.
#include <immintrin.h>

#include "base/unroll.h"
#include "qdwconv/generic.h"

namespace irk {
namespace {

struct Ops {
  static constexpr int kDepth = 4, kSize = 1, kVectors = 4, kVectorBytes = 64, kSlack = 16;

  // One row of a vector: 64 / width columns from `col` on, step columns apart, of b.n channels; zero point outside.
  template <int Columns>
  static IRK_INLINE __m512i load(const QDwParams& p, __mmask64 mask, const int8_t* row, int64_t col, __m512i zx) {
    const int64_t step = p.sw * p.c;
    const int8_t* r = row + col * p.c;
    const auto inside = [&](int64_t i) IRK_LAMBDA { return col + i * p.sw >= 0 && col + i * p.sw < p.iw; };
    if constexpr (Columns == 1) {
      return inside(0) ? _mm512_maskz_loadu_epi8(mask, r) : zx;
    } else if constexpr (Columns == 2) {
      const __m256i z = _mm512_castsi512_si256(zx);
      const __mmask32 k = static_cast<__mmask32>(mask);
      const __m256i a = inside(0) ? _mm256_maskz_loadu_epi8(k, r) : z;
      const __m256i b = inside(1) ? _mm256_maskz_loadu_epi8(k, r + step) : z;
      return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    } else {
      const __m128i z = _mm512_castsi512_si128(zx);
      const __mmask16 k = static_cast<__mmask16>(mask);
      __m128i a[4];
      unroll<4>([&](auto i) IRK_LAMBDA { a[i] = inside(i) ? _mm_maskz_loadu_epi8(k, r + i * step) : z; });
      const __m256i lo = _mm256_inserti128_si256(_mm256_castsi128_si256(a[0]), a[1], 1);
      const __m256i hi = _mm256_inserti128_si256(_mm256_castsi128_si256(a[2]), a[3], 1);
      return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
    }
  }
  // The same where all columns are inside the image.
  template <int Columns>
  static IRK_INLINE __m512i load_inside(const QDwParams& p, __mmask64 mask, const int8_t* r) {
    const int64_t step = p.sw * p.c;
    if constexpr (Columns == 1) {
      return _mm512_maskz_loadu_epi8(mask, r);
    } else if constexpr (Columns == 2) {
      const __mmask32 k = static_cast<__mmask32>(mask);
      return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi8(k, r)),
                                _mm256_maskz_loadu_epi8(k, r + step), 1);
    } else {
      const __mmask16 k = static_cast<__mmask16>(mask);
      __m128i a[4];
      unroll<4>([&](auto i) IRK_LAMBDA { a[i] = _mm_maskz_loadu_epi8(k, r + i * step); });
      const __m256i lo = _mm256_inserti128_si256(_mm256_castsi128_si256(a[0]), a[1], 1);
      const __m256i hi = _mm256_inserti128_si256(_mm256_castsi128_si256(a[2]), a[3], 1);
      return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
    }
  }

  static IRK_INLINE void store(char* dst, int64_t vector, const __m512i (&r)[4]) {
    const __m512i flip = _mm512_set1_epi8(-128);
    __m512i u[4];
    unroll<4>([&](auto i) IRK_LAMBDA { u[i] = _mm512_xor_si512(r[i], flip); });
    const __m512i ab0 = _mm512_unpacklo_epi8(u[0], u[1]), ab1 = _mm512_unpackhi_epi8(u[0], u[1]);
    const __m512i cd0 = _mm512_unpacklo_epi8(u[2], u[3]), cd1 = _mm512_unpackhi_epi8(u[2], u[3]);
    _mm512_storeu_si512(dst, _mm512_unpacklo_epi16(ab0, cd0));
    _mm512_storeu_si512(dst + vector, _mm512_unpackhi_epi16(ab0, cd0));
    _mm512_storeu_si512(dst + 2 * vector, _mm512_unpacklo_epi16(ab1, cd1));
    _mm512_storeu_si512(dst + 3 * vector, _mm512_unpackhi_epi16(ab1, cd1));
  }

  template <int Columns>
  static void interleave_block(const QDwParams& p, const QDwBlock& b, const QDwScratch& s, const int8_t* const* rows,
                               int64_t col, int64_t count, char* dst) {
    const __m512i zx = _mm512_set1_epi8(static_cast<char>(p.zx));
    const __mmask64 mask = ~0ull >> (64 - b.n);
    int64_t i = 0;
    const auto edge = [&](int64_t end) {
      for (; i < end; i += Columns, dst += 64) {
        __m512i r[4];
        for (int t = 0; t < 4; t++) r[t] = rows[t] ? load<Columns>(p, mask, rows[t], col + i * p.sw, zx) : zx;
        store(dst, s.vector, r);
      }
    };
    // Columns [first, last) of this plane are inside the image.
    int64_t first = col < 0 ? (-col + p.sw - 1) / p.sw : 0;
    first = (first + Columns - 1) / Columns * Columns;
    const int64_t last = col < p.iw ? (p.iw - 1 - col) / p.sw + 1 : 0;
    edge(first < count ? first : count);
    const int64_t stop = last < count ? last : count;
    const int64_t step = p.sw * p.c;
    if (rows[0] && rows[1] && rows[2] && rows[3]) {
      const int8_t* at[4];
      for (int t = 0; t < 4; t++) at[t] = rows[t] + (col + i * p.sw) * p.c;
      for (; i + Columns <= stop; i += Columns, dst += 64) {
        __m512i r[4];
        unroll<4>([&](auto t) IRK_LAMBDA {
          r[t] = load_inside<Columns>(p, mask, at[t]);
          at[t] += Columns * step;
        });
        store(dst, s.vector, r);
      }
    } else {
      for (; i + Columns <= stop; i += Columns, dst += 64) {
        __m512i r[4];
        unroll<4>([&](auto t) IRK_LAMBDA {
          r[t] = rows[t] ? load_inside<Columns>(p, mask, rows[t] + (col + i * p.sw) * p.c) : zx;
        });
        store(dst, s.vector, r);
      }
    }
    edge(count);
  }

  static void interleave(const QDwParams& p, const QDwBlock& b, const QDwScratch& s, const int8_t* const* rows,
                         int64_t col, int64_t count, char* dst) {
    if (b.width == 64)
      interleave_block<1>(p, b, s, rows, col, count, dst);
    else if (b.width == 32)
      interleave_block<2>(p, b, s, rows, col, count, dst);
    else
      interleave_block<4>(p, b, s, rows, col, count, dst);
  }

  // U vectors of 64 / width columns each.
  template <int U>
  static IRK_INLINE void vectors(const QDwParams& p, const QDwBlock& b, const QDwScratch& s, const char* src,
                                 const uint8_t* w, int64_t left, char* out, const int8_t* res) {
    __m512i acc[U][4];
    unroll<4>([&](auto q) IRK_LAMBDA {
      acc[0][q] = _mm512_loadu_si512(p.bias + b.lanes + 16 * q);
      unroll<U - 1>([&](auto u) IRK_LAMBDA { acc[u + 1][q] = acc[0][q]; });
    });
    for (int64_t g = 0; g < p.groups; g++)
      for (int64_t kw = 0; kw < p.kw; kw++, w += 256) {
        const char* t = src + qdw_offset(p, s, g, kw, b.width);
        unroll<4>([&](auto q) IRK_LAMBDA {
          const __m512i wq = _mm512_loadu_si512(w + 64 * q);
          unroll<U>([&](auto u) IRK_LAMBDA {
            acc[u][q] = _mm512_dpbusd_epi32(acc[u][q], _mm512_loadu_si512(t + q * s.vector + 64 * u), wq);
          });
        });
      }
    const float* m = p.m + b.lanes;
    unroll<U>([&](auto u) IRK_LAMBDA { finish(p, b, acc[u], m, left - u * (64 / b.width), out, res, u); });
  }

  // Sixty-four sums to outputs: lane i of vector q holds channels 16i + 4q .., so the packs restore memory order.
  static IRK_INLINE void finish(const QDwParams& p, const QDwBlock& b, const __m512i (&acc)[4], const float* m,
                                int64_t left, char* out, const int8_t* res, int64_t u) {
    __m512 y[4];
    unroll<4>([&](auto q)
                  IRK_LAMBDA { y[q] = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[q]), _mm512_loadu_ps(m + 16 * q)); });
    const int64_t per = 64 / b.width;
    const __mmask64 mask = ~0ull >> (64 - b.n);
    if (__builtin_expect(p.f32, 0)) {
      float all[64];
      unroll<4>([&](auto q) IRK_LAMBDA { _mm512_storeu_ps(all + 16 * q, y[q]); });
      float* d = reinterpret_cast<float*>(out) + u * per * p.c;
      for (int64_t i = 0; i < per && i < left; i++)
        for (int64_t c = 0; c < b.n; c++) {
          const int64_t at = i * b.width + c;
          d[i * p.c + c] = all[at / 4 % 4 * 16 + at / 16 * 4 + at % 4];
        }
      return;
    }
    if (res) {
      alignas(64) int8_t r[64];
      const int8_t* from = res + u * per * p.c;
      for (int64_t i = 0; i < per && i < left; i++)
        for (int64_t c = 0; c < b.n; c++) r[i * b.width + c] = from[i * p.c + c];
      const __m512i bytes = _mm512_load_si512(r);
      unroll<4>([&](auto q) IRK_LAMBDA {
        // The bytes of vector q to the top of their dwords; the shift back sign-extends them.
        const __m512i pick = _mm512_set4_epi32((4 * q + 3) << 24 | 0x808080, (4 * q + 2) << 24 | 0x808080,
                                               (4 * q + 1) << 24 | 0x808080, (4 * q) << 24 | 0x808080);
        const __m512i wide = _mm512_srai_epi32(_mm512_shuffle_epi8(bytes, pick), 24);
        const __m512 f = _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, _mm512_set1_epi32(p.zr)));
        y[q] = _mm512_add_ps(y[q], _mm512_mul_ps(f, _mm512_set1_ps(p.mr)));
      });
    }
    if (__builtin_expect(p.wide, 0)) {
      const __m512 limit = _mm512_set1_ps(65536.f);  // far outside int8, far inside int32
      unroll<4>([&](auto q) IRK_LAMBDA { y[q] = _mm512_min_ps(y[q], limit); });
    }
    const __m512i zy = _mm512_set1_epi16(static_cast<short>(p.zy));
    const __m512i h0 = _mm512_packs_epi32(_mm512_cvtps_epi32(y[0]), _mm512_cvtps_epi32(y[1]));
    const __m512i h1 = _mm512_packs_epi32(_mm512_cvtps_epi32(y[2]), _mm512_cvtps_epi32(y[3]));
    __m512i v = _mm512_packs_epi16(_mm512_adds_epi16(h0, zy), _mm512_adds_epi16(h1, zy));
    v = _mm512_max_epi8(v, _mm512_set1_epi8(static_cast<char>(p.lo)));
    v = _mm512_min_epi8(v, _mm512_set1_epi8(static_cast<char>(p.hi)));
    char* d = out + u * per * p.c;
    if (b.width == 64) {
      if (left > 0) _mm512_mask_storeu_epi8(d, mask, v);
    } else if (b.width == 32) {
      if (left > 0) _mm256_mask_storeu_epi8(d, static_cast<__mmask32>(mask), _mm512_castsi512_si256(v));
      if (left > 1) _mm256_mask_storeu_epi8(d + p.c, static_cast<__mmask32>(mask), _mm512_extracti64x4_epi64(v, 1));
    } else {
      unroll<4>([&](auto i) IRK_LAMBDA {
        if (left > i) _mm_mask_storeu_epi8(d + i * p.c, static_cast<__mmask16>(mask), _mm512_extracti32x4_epi32(v, i));
      });
    }
  }

  static void outputs(const QDwParams& p, const QDwBlock& b, const QDwScratch& s, const char* src, const uint8_t* w,
                      int64_t count, char* out, const int8_t* res) {
    const int64_t per = 64 / b.width, size = p.f32 ? 4 : 1;
    const auto advance = [&](int64_t vectors) {
      count -= vectors * per;
      src += vectors * 64;
      out += vectors * per * p.c * size;
      if (res) res += vectors * per * p.c;
    };
    while (count > 3 * per) {
      vectors<4>(p, b, s, src, w, count, out, res);
      advance(4);
    }
    if (count > per) {
      vectors<2>(p, b, s, src, w, count, out, res);
      advance(2);
    }
    if (count > 0) vectors<1>(p, b, s, src, w, count, out, res);
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qdwconv_s8s8_avx512vnni(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qdw_run<irk::Ops>(bufs, params, begin, end);
}
