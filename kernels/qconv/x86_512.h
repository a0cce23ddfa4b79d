// 512-bit tiles: 28 accumulators of 16 channels, activations broadcast four bytes at a time. Dot gives the element type
// of the scratch copy and the multiply-accumulate.
#pragma once
#include <immintrin.h>

#include "base/unroll.h"
#include "qconv/generic.h"

namespace irk {
namespace {

// The first n <= 16 * NV bytes of b, which `mask` has. With a residual in pieces: the output may be in place of it, and
// a load that touches bytes which a masked store has spared waits for that store.
template <int NV, bool kResidual>
IRK_INLINE void store_row(char* d, __m512i b, int64_t n, __mmask64 mask) {
  if (kResidual && n < 16 * NV) {
    if (NV == 4 && n & 32) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(d), _mm512_castsi512_si256(b));
      b = _mm512_shuffle_i64x2(b, b, 0xee);
      d += 32;
    }
    if (n & 16) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(d), _mm512_castsi512_si128(b));
      b = _mm512_shuffle_i64x2(b, b, 0x39);
      d += 16;
    }
    __m128i c = _mm512_castsi512_si128(b);
    if (n & 8) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(d), c);
      c = _mm_srli_si128(c, 8);
      d += 8;
    }
    if (n & 4) {
      _mm_storeu_si32(d, c);
      c = _mm_srli_epi64(c, 32);
      d += 4;
    }
    if (n & 2) {
      _mm_storeu_si16(d, c);
      c = _mm_srli_epi64(c, 16);
      d += 2;
    }
    if (n & 1) *d = static_cast<char>(_mm_cvtsi128_si32(c));
    return;
  }
  if (NV == 4)
    _mm512_mask_storeu_epi8(d, mask, b);
  else if (NV == 2)
    _mm256_mask_storeu_epi8(d, static_cast<__mmask32>(mask), _mm512_castsi512_si256(b));
  else
    _mm_mask_storeu_epi8(d, static_cast<__mmask16>(mask), _mm512_castsi512_si128(b));
}

// What the epilogue needs, in registers. Channels of a tile of NV = 2 or 4 vectors are packed so that vector v, lane i,
// element e is channel 4 * NV * i + 4v + e: the two saturating packs then leave whole rows in units of 4 * NV bytes.
template <int NV, QForm form = QForm::plain>
struct Epilogue512 {
  __m512 m[NV], less[NV], mr, limit;
  __m512i zy, lo, hi, zr, order;
  __mmask64 mask;

  IRK_INLINE Epilogue512(const QTile& t, const QConvParams& p) {
    scales(t.m);
    mr = _mm512_set1_ps(p.mr);
    limit = _mm512_set1_ps(65536.f);  // far outside int8 whatever the zero point, far inside int32
    zy = _mm512_set1_epi16(static_cast<short>(p.zy));
    lo = _mm512_set1_epi8(static_cast<char>(p.lo));
    hi = _mm512_set1_epi8(static_cast<char>(p.hi));
    zr = _mm512_set1_epi32(p.zr);
    order = NV == 2 ? _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7)
                    : _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    mask = ~0ull >> (64 - t.n);
  }

  IRK_INLINE void scales(const float* at) {
    unroll<NV>([&](auto v) IRK_LAMBDA {
      m[v] = _mm512_loadu_ps(at + 16 * v);
      less[v] = _mm512_mul_ps(m[v], _mm512_set1_ps(-kQConvLifted));
    });
  }
  // Vector v of sums, scaled.
  template <bool kResidual, int v>
  IRK_INLINE __m512 sum(const int32_t* at) const {
    if constexpr (form == QForm::lifted && !kResidual)
      return _mm512_fmadd_ps(_mm512_load_ps(at), m[v], less[v]);
    else
      return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(at)), m[v]);
  }

  // Four vectors of scaled sums -> 64 bytes, rows in order.
  IRK_INLINE __m512i pack(__m512 a, __m512 b, __m512 c, __m512 d, bool wide, bool clamped) const {
    if (__builtin_expect(wide, 0)) {
      a = _mm512_min_ps(a, limit);
      b = _mm512_min_ps(b, limit);
      c = _mm512_min_ps(c, limit);
      d = _mm512_min_ps(d, limit);
    }
    __m512i ab = _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
    __m512i cd = _mm512_packs_epi32(_mm512_cvtps_epi32(c), _mm512_cvtps_epi32(d));
    __m512i y;
    if constexpr (form == QForm::plain) {
      ab = _mm512_adds_epi16(ab, zy);
      cd = _mm512_adds_epi16(cd, zy);
      y = _mm512_packs_epi16(ab, cd);
      if (clamped) y = _mm512_min_epi8(_mm512_max_epi8(y, lo), hi);
    } else {
      y = _mm512_xor_si512(_mm512_packus_epi16(ab, cd), lo);  // lo is -128: takes 128 from an unsigned byte
    }
    if (NV == 4) return y;
    return NV == 2 ? _mm512_permutexvar_epi64(order, y) : _mm512_permutexvar_epi32(order, y);
  }

  // Adds the residual of one row.
  IRK_INLINE void residual(__m512 (&y)[NV], const int8_t* r) const {
    if (NV == 2) {
      __m256i b = _mm256_maskz_loadu_epi8(static_cast<__mmask32>(mask), r);
      b = _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
      y[0] = _mm512_add_ps(y[0], scaled(_mm256_castsi256_si128(b)));
      y[NV - 1] = _mm512_add_ps(y[NV - 1], scaled(_mm256_extracti128_si256(b, 1)));
    } else {
      y[0] = _mm512_add_ps(y[0], scaled(_mm_maskz_loadu_epi8(static_cast<__mmask16>(mask), r)));
    }
  }
  IRK_INLINE __m512 scaled(__m128i r) const {
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepi8_epi32(r), zr)), mr);
  }

  IRK_INLINE void store_f32(const __m512 (&y)[NV], float* out) const {
    if (NV == 2) {
      const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
      const __m512i second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
      _mm512_mask_storeu_ps(out, static_cast<__mmask16>(mask), _mm512_permutex2var_ps(y[0], first, y[NV - 1]));
      _mm512_mask_storeu_ps(out + 16, static_cast<__mmask16>(mask >> 16),
                            _mm512_permutex2var_ps(y[0], second, y[NV - 1]));
    } else {
      _mm512_mask_storeu_ps(out, static_cast<__mmask16>(mask), y[0]);
    }
  }
};

// Sums of a tile, row after row -> outputs. Going through memory costs little (L1, ports that are idle here) and frees
// the registers: kept in registers across both parts, GCC spills the sums inside the inner loop.
template <int NV, bool Residual, QForm form>
void finish512(const int32_t* sums, int64_t rows, const QTile& t, const QConvParams& p) {
  const Epilogue512<NV, form> e(t, p);
  constexpr int R = 4 / NV;  // rows per 64 bytes
  const bool whole = t.n == 16 * NV, wide = p.wide, clamped = p.clamped;
  int8_t* d = static_cast<int8_t*>(t.out);
  const int8_t* res = t.res;
  for (; rows > 0; rows -= R, sums += 64, d += R * p.oc) {
    __m512 y[R][NV];
    unroll<R>([&](auto r) IRK_LAMBDA {
      unroll<NV>([&](auto v) IRK_LAMBDA { y[r][v] = e.template sum<Residual, v>(sums + (r * NV + v) * 16); });
      if constexpr (Residual) {
        e.residual(y[r], res);
        if (r + 1 < rows) res += p.oc;  // past the last row the rest of the group repeats it
      }
    });
    if constexpr (NV == 2) {
      const __m512i b = e.pack(y[0][0], y[0][1], y[1][0], y[1][1], wide, clamped);
      const __m256i b0 = _mm512_castsi512_si256(b), b1 = _mm512_extracti64x4_epi64(b, 1);
      if (whole) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(d), b0);
        if (rows > 1) _mm256_storeu_si256(reinterpret_cast<__m256i*>(d + p.oc), b1);
      } else {
        store_row<2, Residual>(reinterpret_cast<char*>(d), b, t.n, e.mask);
        if (rows > 1)
          store_row<2, Residual>(reinterpret_cast<char*>(d + p.oc), _mm512_castsi256_si512(b1), t.n, e.mask);
      }
    } else {
      const __m512i b = e.pack(y[0][0], y[1][0], y[2][0], y[3][0], wide, clamped);
      unroll<R>([&](auto r) IRK_LAMBDA {
        const __m128i row = _mm512_extracti32x4_epi32(b, r);
        if (r < rows)
          store_row<1, Residual>(reinterpret_cast<char*>(d + r * p.oc), _mm512_castsi128_si512(row), t.n, e.mask);
      });
    }
  }
}

template <int NV>
void finish512_f32(const int32_t* sums, int64_t rows, const QTile& t, const QConvParams& p) {
  const Epilogue512<NV> e(t, p);
  float* d = static_cast<float*>(t.out);
  for (; rows > 0; rows--, sums += NV * 16, d += p.oc) {
    __m512 y[NV];
    unroll<NV>([&](auto v)
                   IRK_LAMBDA { y[v] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + v * 16)), e.m[v]); });
    e.store_f32(y, d);
  }
}

template <class Dot>
struct Ops512 {
  using A = typename Dot::A;
  using Short = typename Dot::Short;
  static constexpr int MR = 14, NV = 2, VEC = 16;
  static void copy(A* dst, const int8_t* src, int64_t n) { Dot::copy(dst, src, n); }
  static void fill(A* dst, int64_t n, int32_t zx) { Dot::fill(dst, n, zx); }

  template <int M, int NV>
  static void tile(const QTile& t, const QConvParams& p) {
    // Short tiles keep several sums per output, so that the latency of the multiply-accumulate is hidden.
    constexpr int KU = M * NV >= 8 ? 1 : M * NV >= 4 ? 2 : 4;
    constexpr int G = (M + 2) / 3;
    __m512i acc[KU][M][NV];
    unroll<M>([&](auto r) IRK_LAMBDA {
      unroll<NV>([&](auto v) IRK_LAMBDA {
        acc[0][r][v] = _mm512_loadu_si512(t.bias + 16 * v);
        unroll<KU - 1>([&](auto u) IRK_LAMBDA { acc[u + 1][r][v] = _mm512_setzero_si512(); });
      });
    });
    // One pointer serves three rows: base, base + lda, base + 2 * lda are all addressing modes.
    const char* base[G];
    const int64_t lda = p.lda * static_cast<int64_t>(sizeof(A));
    unroll<G>([&](auto g) IRK_LAMBDA { base[g] = static_cast<const char*>(t.a) + 3 * g * lda; });
    const char* w = static_cast<const char*>(t.w);
    const char* soon = static_cast<const char*>(t.soon ? t.soon : t.w);
    const auto steps = [&](auto count) IRK_LAMBDA {
      unroll<count>([&](auto u) IRK_LAMBDA {
        __m512i wv[NV];
        unroll<NV>([&](auto v) IRK_LAMBDA { wv[v] = _mm512_loadu_si512(w + (u * NV + v) * 64); });
        unroll<M>([&](auto r) IRK_LAMBDA {
          const __m512i b = broadcast(base[r / 3] + r % 3 * lda + 4 * u);
          unroll<NV>([&](auto v) IRK_LAMBDA { acc[u][r][v] = Dot::dot(acc[u][r][v], b, wv[v]); });
        });
      });
      w += count * NV * 64;
      if (M >= 4) {  // shorter tiles are limited by these very reads
        _mm_prefetch(soon, _MM_HINT_T1);
        soon += 64;
      }
      unroll<G>([&](auto g) IRK_LAMBDA {
        base[g] += 4 * count;
        asm("" : "+r"(base[g]));  // keeps these pointers instead of one per row, which would not fit the registers
      });
    };
    int64_t k = p.steps;
    for (; k >= KU; k -= KU) steps(Int<KU>());
    if (KU > 1) {
      for (; k > 0; k--) steps(Int<1>());
      unroll<KU - 1>([&](auto u) IRK_LAMBDA {
        unroll<M>([&](auto r) IRK_LAMBDA {
          unroll<NV>([&](auto v) IRK_LAMBDA { acc[0][r][v] = _mm512_add_epi32(acc[0][r][v], acc[u + 1][r][v]); });
        });
      });
    }
    alignas(64) int32_t sums[(M * NV + 3) / 4 * 64];
    constexpr int kMore = (4 - M * NV % 4) % 4;  // a last incomplete group of rows
    unroll<kMore>([&](auto i) IRK_LAMBDA { _mm512_store_si512(sums + (M * NV + i) * 16, _mm512_setzero_si512()); });
    unroll<M>([&](auto r) IRK_LAMBDA {
      unroll<NV>([&](auto v) IRK_LAMBDA { _mm512_store_si512(sums + (r * NV + v) * 16, acc[0][r][v]); });
    });
    if (p.f32)
      finish512_f32<NV>(sums, M, t, p);
    else if (t.res)
      (p.form == QForm::plain ? finish512<NV, true, QForm::plain> : finish512<NV, true, QForm::low>)(sums, M, t, p);
    else
      (p.form == QForm::lifted ? finish512<NV, false, QForm::lifted> : finish512<NV, false, QForm::plain>)(sums, M, t,
                                                                                                           p);
  }

  static IRK_INLINE __m512i broadcast(const char* a) {
    int32_t x;
    __builtin_memcpy(&x, a, 4);
    return _mm512_set1_epi32(x);
  }
};

}  // namespace
}  // namespace irk
