// Turning the sums of AMX tiles into outputs.
#pragma once
#include <immintrin.h>

#include "base/unroll.h"
#include "qconv/qconv.h"
#include "qconv/x86_512.h"

namespace irk {
namespace {

enum class Out { i8, residual, f32 };

// Sums of a tile, and where its outputs go.
struct Sums {
  int32_t* at;
  bool tall;                  // two tiles of rows
  char* const* to;            // of each row: its output, or some memory to spoil
  const int8_t* const* from;  // its residual
  const float* m;
  int64_t c0;  // first channel
};

// Turns sums into outputs, a group of four vectors at a time. Simple: int8, all of the
// channels, no sums that could leave int32 when scaled.
template <int NV, Out kOut, QForm form, bool simple>
struct Finish {
  static constexpr int R = 4 / NV;  // rows per group
  Epilogue512<NV, form> e;
  __m512i spread[NV];  // places of the bytes of each vector in a residual row
  __m512i lift, flip;  // what makes 2^23 + r + 128 of a byte
  __m512 back;         // 2^23 + zr + 128, or, lifted, its product with -mr
  int64_t n;           // channels
  bool wide;

  IRK_INLINE Finish(const QTile& t, const QConvParams& p) : e(t, p), n(t.n), wide(p.wide) {
    const __m512i lane = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    const __m512i element = _mm512_set_epi32(3, 2, 1, 0, 3, 2, 1, 0, 3, 2, 1, 0, 3, 2, 1, 0);
    unroll<NV>([&](auto v) IRK_LAMBDA {
      spread[v] = _mm512_add_epi32(_mm512_add_epi32(_mm512_mullo_epi32(lane, _mm512_set1_epi32(4 * NV)), element),
                                   _mm512_set1_epi32(4 * v));
    });
    lift = _mm512_set1_epi32(static_cast<int32_t>(kQConvLift));
    flip = _mm512_set1_epi8(-128);
    back = _mm512_set1_ps(form == QForm::lifted ? p.mr * -kQConvLifted : kQConvLifted + static_cast<float>(p.zr + 128));
  }

  IRK_INLINE void scales(const float* at) { e.scales(at); }

  // Adds the residual of a row: as float bits its bytes are 2^23 + r + 128, see kQConvLift.
  IRK_INLINE void residual(__m512 (&y)[NV], const int8_t* r) const {
    __m512i b;
    if constexpr (NV == 4)
      b = simple ? _mm512_loadu_si512(r) : _mm512_maskz_loadu_epi8(e.mask, r);
    else
      b = _mm512_castsi256_si512(NV == 2
                                     ? (simple ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(r))
                                               : _mm256_maskz_loadu_epi8(static_cast<__mmask32>(e.mask), r))
                                     : _mm256_castsi128_si256(_mm_maskz_loadu_epi8(static_cast<__mmask16>(e.mask), r)));
    b = _mm512_xor_si512(b, flip);
    unroll<NV>([&](auto v) IRK_LAMBDA {
      const __m512 lifted = _mm512_castsi512_ps(_mm512_mask_permutexvar_epi8(lift, 0x1111111111111111, spread[v], b));
      y[v] = _mm512_add_ps(y[v], form == QForm::lifted ? _mm512_fmadd_ps(lifted, e.mr, back)
                                                       : _mm512_mul_ps(_mm512_sub_ps(lifted, back), e.mr));
    });
  }

  IRK_INLINE void operator()(const Sums& s, int64_t i) const {
    const int32_t* sums = s.at + i * 64;
    __m512 y[R][NV];
    unroll<R>([&](auto r) IRK_LAMBDA {
      unroll<NV>([&](auto v)
                     IRK_LAMBDA { y[r][v] = e.template sum<kOut == Out::residual, v>(sums + (r * NV + v) * 16); });
      if constexpr (kOut == Out::residual) residual(y[r], s.from[i * R + r] + s.c0);
      if constexpr (kOut == Out::f32) e.store_f32(y[r], reinterpret_cast<float*>(s.to[i * R + r]) + s.c0);
    });
    if constexpr (kOut == Out::f32) return;
    char* d[R];
    unroll<R>([&](auto r) IRK_LAMBDA { d[r] = s.to[i * R + r] + s.c0; });
    const bool limit = !simple && wide;
    if constexpr (NV == 4) {
      const __m512i b = e.pack(y[0][0], y[0][1], y[0][2], y[0][3], limit, true);
      if (simple)
        _mm512_storeu_si512(d[0], b);
      else
        store_row<4, kOut == Out::residual>(d[0], b, n, e.mask);
    } else if constexpr (NV == 2) {
      const __m512i b = e.pack(y[0][0], y[0][1], y[1][0], y[1][1], limit, true);
      if (simple) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(d[0]), _mm512_castsi512_si256(b));
        // One instruction, which GCC splits into two.
        asm("vextracti64x4 $1, %1, %0" : "=m"(*reinterpret_cast<__m256i_u*>(d[1])) : "v"(b));
      } else {
        store_row<2, kOut == Out::residual>(d[0], b, n, e.mask);
        store_row<2, kOut == Out::residual>(d[1], _mm512_shuffle_i64x2(b, b, 0xee), n, e.mask);
      }
    } else {
      const __m512i b = e.pack(y[0][0], y[1][0], y[2][0], y[3][0], limit, true);
      unroll<R>([&](auto r) IRK_LAMBDA {
        const __m128i row = _mm512_extracti32x4_epi32(b, r);
        if (simple)
          _mm_storeu_si128(reinterpret_cast<__m128i*>(d[r]), row);
        else
          store_row<1, kOut == Out::residual>(d[r], _mm512_castsi128_si512(row), n, e.mask);
      });
    }
  }
};

}  // namespace
}  // namespace irk
