// AVX-512 VNNI: groups of four rows; a vector holds four taps of sixteen channels. 64 channels of one column, or 32 of
// two, or 16 of four: the interleave works within 128-bit lanes, so a lane may come from another column. Where these
// are all channels, 8 of eight columns as well, columns of a vector follow each other in memory.
#include <immintrin.h>

#include "base/unroll.h"
#include "qdwconv/columns_avx512.h"
#include "qdwconv/generic.h"

namespace irk {
namespace {

// Four rows to four vectors of four-tap dwords, as unsigned bytes.
IRK_INLINE void store_group(char* dst, int64_t vector, const __m512i (&r)[4]) {
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

template <int Columns, Lie lie>
void interleave_columns(const QDwParams& p, const QDwBlock& b, const int8_t* const* rows, int64_t col, int64_t count,
                        char* dst) {
  const __mmask64 mask = ~0ull >> (64 - b.n);
  const int64_t step = p.sw * p.c;
  alignas(64) int8_t outside[128];
  _mm512_store_si512(outside, _mm512_set1_epi8(static_cast<char>(p.zx)));
  _mm512_store_si512(outside + 64, _mm512_load_si512(outside));
  // A row outside the image is read from `outside`, over and over.
  const int8_t* at[4];
  int64_t next[4];
  for (int t = 0; t < 4; t++) {
    at[t] = rows[t] ? rows[t] + col * p.c : outside;
    next[t] = rows[t] ? step : 0;
  }
  const int64_t vector = b.vector;
  const QDwInside inside = qdw_inside(p, col);
  const int64_t first = inside.first, stop = inside.stop;
  int64_t i = 0;
  const auto edge = [&](int64_t end) {
    for (; i < end; i += Columns, dst += 64) {
      const __m512i none = _mm512_load_si512(outside);
      __m512i r[4];
      unroll<4>([&](auto t) IRK_LAMBDA {
        r[t] = load_edge<Columns, lie>(at[t] + i * next[t], next[t], mask, first - i, stop - i, none);
      });
      store_group(dst, vector, r);
    }
  };
  edge(first < count ? first : count);
  const int8_t* from[4] = {at[0] + i * next[0], at[1] + i * next[1], at[2] + i * next[2], at[3] + i * next[3]};
  const int64_t move[4] = {next[0] * Columns, next[1] * Columns, next[2] * Columns, next[3] * Columns};
  for (const int64_t end = stop < count ? stop : count; i + Columns <= end; i += Columns, dst += 64) {
    __m512i r[4];
    unroll<4>([&](auto t) IRK_LAMBDA {
      r[t] = load_row<Columns, lie>(from[t], next[t], mask);
      from[t] += move[t];
      asm("" : "+r"(from[t]));  // GCC would keep the four pointers in one vector and extract them for every load
    });
    store_group(dst, vector, r);
  }
  edge(count);
}

// Sums to outputs, `vectors` times 64. Lane i of vector q holds channels 16i + 4q .., so the packs restore memory
// order.
template <int Columns, Lie lie>
void finish(const QDwParams& p, const QDwBlock& b, const int32_t* sums, int64_t left, int8_t* d, const int8_t* res) {
  const float* m = p.m + b.lanes;
  const __m512 m0 = _mm512_loadu_ps(m), m1 = _mm512_loadu_ps(m + 16), m2 = _mm512_loadu_ps(m + 32),
               m3 = _mm512_loadu_ps(m + 48), mr = _mm512_set1_ps(p.mr);
  const __m512 limit = _mm512_set1_ps(65536.f);  // far outside int8, far inside int32
  const __m512i zy = _mm512_set1_epi16(static_cast<short>(p.zy)), zr = _mm512_set1_epi32(p.zr);
  const __m512i lo = _mm512_set1_epi8(static_cast<char>(p.lo)), hi = _mm512_set1_epi8(static_cast<char>(p.hi));
  const bool wide = p.wide;
  const int64_t pixel = p.c;
  for (; left > 0; left -= Columns, sums += 64, d += Columns * pixel) {
    __m512 y[4] = {_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums)), m0),
                   _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + 16)), m1),
                   _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + 32)), m2),
                   _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + 48)), m3)};
    if (__builtin_expect(res != nullptr, 0)) {
      const __m512i bytes = load_residual<Columns>(p, b, res, left);
      res += Columns * pixel;
      unroll<4>([&](auto q) IRK_LAMBDA {
        // The bytes of vector q to the top of their dwords; the shift back sign-extends them.
        const __m512i pick = _mm512_set4_epi32((4 * q + 3) << 24 | 0x808080, (4 * q + 2) << 24 | 0x808080,
                                               (4 * q + 1) << 24 | 0x808080, (4 * q) << 24 | 0x808080);
        const __m512i r = _mm512_srai_epi32(_mm512_shuffle_epi8(bytes, pick), 24);
        y[q] = _mm512_add_ps(y[q], _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(r, zr)), mr));
      });
    }
    if (__builtin_expect(wide, 0)) unroll<4>([&](auto q) IRK_LAMBDA { y[q] = _mm512_min_ps(y[q], limit); });
    const __m512i h0 = _mm512_packs_epi32(_mm512_cvtps_epi32(y[0]), _mm512_cvtps_epi32(y[1]));
    const __m512i h1 = _mm512_packs_epi32(_mm512_cvtps_epi32(y[2]), _mm512_cvtps_epi32(y[3]));
    __m512i v = _mm512_packs_epi16(_mm512_adds_epi16(h0, zy), _mm512_adds_epi16(h1, zy));
    v = _mm512_min_epi8(_mm512_max_epi8(v, lo), hi);
    store_bytes<Columns, lie>(v, d, pixel, left, b.n);
  }
}

void finish_f32(const QDwParams& p, const QDwBlock& b, const int32_t* sums, int64_t left, float* d) {
  for (int64_t i = 0; i < left; i++)
    for (int64_t c = 0; c < b.n; c++) {
      const int64_t at = i % (64 / b.width) * b.width + c, lane = at / 4 % 4 * 16 + at / 16 * 4 + at % 4;
      d[i * p.c + c] = static_cast<float>(sums[i / (64 / b.width) * 64 + lane]) * p.m[b.lanes + lane];
    }
}

// _mm512_dpbusd_epi32, in place: GCC 12 copies the accumulators of a loop around once per iteration.
IRK_INLINE void multiply_add(__m512i& acc, __m512i unsigned_bytes, __m512i signed_bytes) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(unsigned_bytes), "v"(signed_bytes));
}

// Sums of U vectors of outputs. Of eight columns, vectors 2 and 3 hold the odd ones of the channels of 0 and 1: an odd
// column's tap, told by its offset, meets the even ones there, and the odd ones at the next even column.
template <int U, int Columns>
IRK_INLINE void sum_taps(const QDwParams& p, const int32_t* bias, int64_t vector, const int64_t* offsets,
                         const char* src, const uint8_t* w, __m512i (&acc)[U][4]) {
  unroll<4>([&](auto q) IRK_LAMBDA {
    acc[0][q] = _mm512_loadu_si512(bias + 16 * q);
    unroll<U - 1>([&](auto u) IRK_LAMBDA { acc[u + 1][q] = acc[0][q]; });
  });
  for (int64_t k = 0; k < p.taps; k++, w += 256) {
    const char* t = src + offsets[k];
    if (Columns == 8 && (offsets[k] & 8)) {
      const char* from[4] = {t - 8 + 2 * vector, t - 8 + 3 * vector, t + 8, t + 8 + vector};
      unroll<4>([&](auto q) IRK_LAMBDA {
        const __m512i wq = _mm512_loadu_si512(w + 64 * q);
        unroll<U>([&](auto u) IRK_LAMBDA { multiply_add(acc[u][q], _mm512_loadu_si512(from[q] + 64 * u), wq); });
      });
      continue;
    }
    unroll<4>([&](auto q) IRK_LAMBDA {
      const __m512i wq = _mm512_loadu_si512(w + 64 * q);
      unroll<U>([&](auto u) IRK_LAMBDA { multiply_add(acc[u][q], _mm512_loadu_si512(t + 64 * u), wq); });
      t += vector;
    });
  }
}

// Constants of the plain epilogue, read where they are used.
struct alignas(64) Plain {
  float m[64], less[64];  // see kQConvLift
  int16_t zy[32];
  int8_t lo[64], hi[64];
};

// The same where a vector is a column and the taps are three neighbouring ones: each is loaded once for all of them.
template <int U>
IRK_INLINE void sum_three_taps(const int32_t* bias, int64_t vector, const char* src, const uint8_t* w,
                               __m512i (&acc)[U][4]) {
  unroll<4>([&](auto q) IRK_LAMBDA {
    __m512i column[U + 2];
    unroll<U + 2>([&](auto u) IRK_LAMBDA { column[u] = _mm512_loadu_si512(src + q * vector + 64 * u); });
    unroll<U>([&](auto u) IRK_LAMBDA { acc[u][q] = _mm512_loadu_si512(bias + 16 * q); });
    unroll<3>([&](auto k) IRK_LAMBDA {
      const __m512i wk = _mm512_loadu_si512(w + 256 * k + 64 * q);
      unroll<U>([&](auto u) IRK_LAMBDA { multiply_add(acc[u][q], column[u + k], wk); });
    });
  });
}

enum class Taps { any, three };

// The usual case: int8 output without residual, sums that can't leave the int32 range when scaled.
template <int U, int Columns, Lie lie, bool lifted, Taps taps>
IRK_INLINE void plain_vectors(const QDwParams& p, const QDwBlock& b, const Plain* constants, const int64_t* offsets,
                              const char* src, const uint8_t* w, int64_t left, int8_t* d) {
  __m512i y[U][4];
  if constexpr (taps == Taps::three)
    sum_three_taps<U>(p.bias + b.lanes, b.vector, src, w, y);
  else
    sum_taps<U, Columns>(p, p.bias + b.lanes, b.vector, offsets, src, w, y);
  // Keeps GCC from holding the constants in registers during the sums, which would then spill.
  asm("" : "+r"(constants));
  const Plain& k = *constants;
  unroll<4>([&](auto q) IRK_LAMBDA {
    const __m512 m = _mm512_load_ps(k.m + 16 * q), less = _mm512_load_ps(k.less + 16 * q);
    unroll<U>([&](auto u) IRK_LAMBDA {
      y[u][q] = _mm512_cvtps_epi32(lifted ? _mm512_fmadd_ps(_mm512_castsi512_ps(y[u][q]), m, less)
                                          : _mm512_mul_ps(_mm512_cvtepi32_ps(y[u][q]), m));
    });
  });
  const int64_t pixel = p.c;
  const __m512i lo = _mm512_load_si512(k.lo), hi = _mm512_load_si512(k.hi), zy = _mm512_load_si512(k.zy);
  unroll<U>([&](auto u) IRK_LAMBDA {
    __m512i h0 = _mm512_packs_epi32(y[u][0], y[u][1]), h1 = _mm512_packs_epi32(y[u][2], y[u][3]), v;
    if constexpr (lifted) {
      v = _mm512_xor_si512(_mm512_packus_epi16(h0, h1), lo);  // -128
    } else {
      v = _mm512_packs_epi16(_mm512_adds_epi16(h0, zy), _mm512_adds_epi16(h1, zy));
      if (p.clamped) v = _mm512_min_epi8(_mm512_max_epi8(v, lo), hi);
    }
    store_bytes<Columns, lie>(v, d + u * Columns * pixel, pixel, left - u * Columns, b.n);
  });
}

template <int Columns, Lie lie, bool lifted, Taps taps>
void plain_row(const QDwParams& p, const QDwBlock& b, const int64_t* offsets, const char* src, const uint8_t* w,
               int64_t count, int8_t* d) {
  Plain k;
  unroll<4>([&](auto q) IRK_LAMBDA {
    const __m512 m = _mm512_loadu_ps(p.m + b.lanes + 16 * q);
    _mm512_store_ps(k.m + 16 * q, m);
    _mm512_store_ps(k.less + 16 * q, _mm512_mul_ps(m, _mm512_set1_ps(-kQConvLifted)));
  });
  _mm512_store_si512(k.zy, _mm512_set1_epi16(static_cast<short>(p.zy)));
  _mm512_store_si512(k.lo, _mm512_set1_epi8(static_cast<char>(p.lo)));
  _mm512_store_si512(k.hi, _mm512_set1_epi8(static_cast<char>(p.hi)));
  const int64_t move = Columns * p.c;
  for (; count > 3 * Columns; count -= 4 * Columns, src += 256, d += 4 * move)
    plain_vectors<4, Columns, lie, lifted, taps>(p, b, &k, offsets, src, w, count, d);
  if (count > Columns) {
    plain_vectors<2, Columns, lie, lifted, taps>(p, b, &k, offsets, src, w, count, d);
    count -= 2 * Columns, src += 128, d += 2 * move;
  }
  if (count > 0) plain_vectors<1, Columns, lie, lifted, taps>(p, b, &k, offsets, src, w, count, d);
}

// One row of outputs of a block.
template <int Columns, Lie lie>
void output_row(const QDwParams& p, const QDwBlock& b, const int64_t* offsets, const char* src, const uint8_t* w,
                int64_t count, char* out, const int8_t* res) {
  if (!res && !p.f32 && !p.wide) {
    constexpr Taps kThree = Columns == 1 ? Taps::three : Taps::any;
    const bool three = p.taps == 3 && offsets[0] == 0 && offsets[1] == 64 && offsets[2] == 128;
    const auto row = p.form == QForm::lifted
                         ? (three ? plain_row<Columns, lie, true, kThree> : plain_row<Columns, lie, true, Taps::any>)
                         : (three ? plain_row<Columns, lie, false, kThree> : plain_row<Columns, lie, false, Taps::any>);
    row(p, b, offsets, src, w, count, reinterpret_cast<int8_t*>(out));
    return;
  }
  alignas(64) int32_t sums[64];
  for (; count > 0; count -= Columns, src += 64) {
    __m512i acc[1][4];
    sum_taps<1, Columns>(p, p.bias + b.lanes, b.vector, offsets, src, w, acc);
    unroll<4>([&](auto q) IRK_LAMBDA { _mm512_store_si512(sums + 16 * q, acc[0][q]); });
    const int64_t done = count < Columns ? count : Columns;
    if (p.f32)
      finish_f32(p, b, sums, done, reinterpret_cast<float*>(out));
    else
      finish<Columns, lie>(p, b, sums, done, reinterpret_cast<int8_t*>(out), res);
    out += Columns * p.c * (p.f32 ? 4 : 1);
    if (res) res += Columns * p.c;
  }
}

struct Ops {
  static constexpr int kDepth = 4, kVectors = 4, kVectorBytes = 64;

  template <int Columns, Lie lie>
  struct Kind {
    static constexpr int kColumns = Columns;
    static constexpr Lie kLie = lie;
  };
  // f(Kind<columns of a vector, how they lie in memory>())
  template <class F>
  static IRK_INLINE void choose(const QDwParams& p, const QDwBlock& b, F f) {
    if (b.width == 64) return b.n == 64 ? f(Kind<1, Lie::whole>()) : f(Kind<1, Lie::part>());
    const bool whole = b.n == b.width, dense1 = whole && b.n == p.c && p.sw == 1;
    const bool dense2 = whole && b.n == p.c && p.sw == 2;
    if (b.width == 8) return dense1 ? f(Kind<8, Lie::dense1>()) : f(Kind<8, Lie::dense2>());
    if (b.width == 32)
      return dense1   ? f(Kind<2, Lie::dense1>())
             : dense2 ? f(Kind<2, Lie::dense2>())
             : whole  ? f(Kind<2, Lie::whole>())
                      : f(Kind<2, Lie::part>());
    return dense1   ? f(Kind<4, Lie::dense1>())
           : dense2 ? f(Kind<4, Lie::dense2>())
           : whole  ? f(Kind<4, Lie::whole>())
                    : f(Kind<4, Lie::part>());
  }

  static void interleave(const QDwParams& p, const QDwBlock& b, const int8_t* const* rows, int64_t col, int64_t count,
                         char* dst) {
    choose(p, b, [&](auto k) { interleave_columns<k.kColumns, k.kLie>(p, b, rows, col, count, dst); });
  }

  static void outputs(const QDwParams& p, const QDwBlock& b, const int64_t* offsets, const char* src, const uint8_t* w,
                      int64_t count, char* out, const int8_t* res) {
    choose(p, b, [&](auto k) { output_row<k.kColumns, k.kLie>(p, b, offsets, src, w, count, out, res); });
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qdwconv_s8s8_avx512vnni(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qdw_run<irk::Ops>(bufs, params, begin, end);
}
