// What the three NEON levels share: copying bytes into the scratch, and the epilogue of a tile.
#pragma once
#include "base/requant_neon.h"
#include "qconv/rows.h"

namespace irk {
namespace {

inline void copy_bytes(int8_t* dst, const int8_t* src, int64_t n) {
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) vst1q_s8_x4(dst + i, vld1q_s8_x4(src + i));
  for (; i + 16 <= n; i += 16) vst1q_s8(dst + i, vld1q_s8(src + i));
  if (i == n) return;
  if (n >= 16) {
    vst1q_s8(dst + n - 16, vld1q_s8(src + n - 16));  // overlaps what is written already, with the same values
    return;
  }
  if (n >= 8) {
    const int8x8_t a = vld1_s8(src), b = vld1_s8(src + n - 8);
    vst1_s8(dst, a);
    vst1_s8(dst + n - 8, b);
    return;
  }
  for (; i < n; i++) dst[i] = src[i];
}

// Writes up to 15 elements too many: what follows is written later, or is slack.
inline void fill_bytes(int8_t* dst, int64_t n, int32_t zx) {
  for (int64_t i = 0; i < n; i += 16) vst1q_s8(dst + i, vdupq_n_s8(static_cast<int8_t>(zx)));
}

// n bytes from each of `count` places; reads and writes whole vectors.
inline void gather_bytes(int8_t* dst, int64_t lda, const int8_t* src, int64_t step, int64_t n, int64_t count) {
  if (n <= 16) {
    for (; count >= 4; count -= 4, dst += 4 * lda, src += 4 * step)
      unroll<4>([&](auto i) IRK_LAMBDA { vst1q_s8(dst + i * lda, vld1q_s8(src + i * step)); });
    for (; count > 0; count--, dst += lda, src += step) vst1q_s8(dst, vld1q_s8(src));
    return;
  }
  for (; count > 0; count--, dst += lda, src += step)
    for (int64_t i = 0; i < n; i += 16) vst1q_s8(dst + i, vld1q_s8(src + i));
}

// Any epilogue, from memory: sums of `rows` rows 16 apart; n columns.
IRK_NOINLINE inline void finish_any(const int32_t* sums, int64_t rows, const float* m, int64_t n, const int8_t* res,
                                    void* out, const QConvParams& p) {
  const RequantNeon e(p.zy, p.lo, p.hi, p.zr, p.mr);
  for (int64_t r = 0; r < rows; r++) {
    if (p.f32)
      requant_f32_neon(sums + 16 * r, m, n, static_cast<float*>(out) + r * p.oc);
    else
      e.bytes(sums + 16 * r, m, n, res ? res + r * p.oc : nullptr, static_cast<int8_t*>(out) + r * p.oc);
  }
}

template <int NV>
IRK_INLINE void load_vectors(const float* src, float32x4_t (&v)[NV]) {
  if constexpr (NV == 4) {
    const float32x4x4_t x = vld1q_f32_x4(src);
    unroll<4>([&](auto c) IRK_LAMBDA { v[c] = x.val[c]; });
  } else {
    unroll<NV>([&](auto c) IRK_LAMBDA { v[c] = vld1q_f32(src + 4 * c); });
  }
}
template <int NV>
IRK_INLINE void load_vectors(const int8_t* src, int8x16_t (&v)[NV]) {
  if constexpr (NV == 4) {
    const int8x16x4_t x = vld1q_s8_x4(src);
    unroll<4>([&](auto c) IRK_LAMBDA { v[c] = x.val[c]; });
  } else if constexpr (NV >= 2) {
    const int8x16x2_t x = vld1q_s8_x2(src);
    v[0] = x.val[0], v[1] = x.val[1];
    if constexpr (NV == 3) v[2] = vld1q_s8(src + 32);
  } else {
    v[0] = vld1q_s8(src);
  }
}

// Keeps loads through w from moving up past the products made so far: there are no registers for them. GCC and Clang do
// that otherwise.
template <int M, int N>
IRK_INLINE void pin(int32x4_t (&acc)[M][N], const int8_t*& w) {
  unroll<M>([&](auto r) IRK_LAMBDA {
    unroll<N>([&](auto v) IRK_LAMBDA {
      int32x4_t& a = acc[r][v];  // Clang captures nothing that only asm names
      asm volatile("" : "+w"(a));
    });
  });
  asm volatile("" : "+r"(w));
}

// A pointer the compiler can't see through: what is read from it isn't kept in registers all along, where the
// accumulators are.
template <class T>
IRK_INLINE const T* later(const T* x) {
  asm volatile("" : "+r"(x));
  return x;
}

// The low 4 * NV bytes.
template <int NV>
IRK_INLINE void store_low(int8_t* out, int8x16_t v) {
  if constexpr (NV == 4) vst1q_s8(out, v);
  if constexpr (NV == 2 || NV == 3) vst1_s8(out, vget_low_s8(v));
  if constexpr (NV == 3) vst1q_lane_s32(reinterpret_cast<int32_t*>(out + 8), vreinterpretq_s32_s8(v), 2);
  if constexpr (NV == 1) vst1q_lane_s32(reinterpret_cast<int32_t*>(out), vreinterpretq_s32_s8(v), 0);
}
template <int NV>
IRK_INLINE int8x16_t load_low(const int8_t* src) {
  if constexpr (NV == 4) {
    return vld1q_s8(src);
  } else {
    int8x16_t v = vdupq_n_s8(0);
    if constexpr (NV == 1)
      v = vreinterpretq_s8_s32(vld1q_lane_s32(reinterpret_cast<const int32_t*>(src), vreinterpretq_s32_s8(v), 0));
    else
      v = vcombine_s8(vld1_s8(src), vdup_n_s8(0));
    if constexpr (NV == 3)
      v = vreinterpretq_s8_s32(vld1q_lane_s32(reinterpret_cast<const int32_t*>(src + 8), vreinterpretq_s32_s8(v), 2));
    return v;
  }
}

// The shortest epilogue, for an even zero point and no clamp, when scaled values are known to stay far inside int16.
// Adding 1.5 * 2^23 + zero rounds to the nearest integer, ties to even, and leaves integer + zero in the low half of
// the float. Per 16 outputs: 4 conversions, 4 products, 4 sums, 2 + 2 narrowings.
inline bool finish_small(const QConvParams& p) { return p.narrow && !p.clamped && !p.f32 && p.zy % 2 == 0; }
inline float plain_magic(const QConvParams& p) { return 12582912.f + static_cast<float>(p.zy); }

IRK_INLINE int16x8_t plain_pair(float32x4_t a, float32x4_t b, float32x4_t magic) {
  return vuzp1q_s16(vreinterpretq_s16_f32(vaddq_f32(a, magic)), vreinterpretq_s16_f32(vaddq_f32(b, magic)));
}
template <int NV>
IRK_INLINE int8x16_t plain_narrow(const float32x4_t (&y)[NV], float32x4_t magic) {
  constexpr int B = NV > 1 ? 1 : 0, C = NV > 2 ? 2 : 0, D = NV > 3 ? 3 : C;
  const int8x8_t low = vqmovn_s16(plain_pair(y[0], y[B], magic));
  if constexpr (NV <= 2) return vcombine_s8(low, low);
  return vqmovn_high_s16(low, plain_pair(y[C], y[D], magic));
}
template <int NV>
IRK_INLINE int8x16_t plain_bytes(const int32x4_t (&acc)[NV], const float32x4_t (&m)[NV], float32x4_t magic) {
  float32x4_t y[NV];
  unroll<NV>([&](auto v) IRK_LAMBDA { y[v] = vmulq_f32(vcvtq_f32_s32(acc[v]), m[v]); });
  return plain_narrow<NV>(y, magic);
}
// What the epilogues of a panel's tiles share, to be held in registers or on the stack: stores of bytes might change
// whatever pointers of QPanel and QConvParams point to, for all the compiler knows.
struct QFinish {
  const float* m;
  int64_t n, oc;
  bool memory;         // float32 output, or a tile whose columns don't fill its vectors
  bool plain;          // finish_small, and not the above
  const float* magic;  // plain_magic
  const QConvParams* p;
};

template <int NV>
IRK_INLINE QFinish make_finish(const QPanel& t, const QConvParams& p, const float* magic) {
  const bool memory = p.f32 || t.n != 4 * NV;
  return {t.m, t.n, p.oc, memory, !memory && finish_small(p), magic, &p};
}

// What is not plain, from memory and out of line, so that the registers of the tile's loop are its own: `rows` rows of
// sums, 16 apart, to their first outputs at out.
template <int NV>
IRK_NOINLINE void finish_memory(const int32_t* sums, int64_t rows, const QFinish& f, char* out, const int8_t* res) {
  const QConvParams& p = *f.p;
  if (f.memory) return finish_any(sums, rows, f.m, f.n, res, out, p);
  const RequantNeon e(p.zy, p.lo, p.hi, p.zr, p.mr);
  const float32x4_t magic = vdupq_n_f32(*f.magic);
  const bool plain = f.plain;
  const int64_t oc = f.oc;
  int8_t* y = reinterpret_cast<int8_t*>(out);
  float32x4_t m[NV];
  load_vectors<NV>(f.m, m);
  for (; rows > 0; rows--, sums += 16, y += oc) {
    float32x4_t v[4];
    unroll<4>([&](auto c) IRK_LAMBDA {
      v[c] = c < NV ? vmulq_f32(vcvtq_f32_s32(vld1q_s32(sums + 4 * c)), m[c < NV ? c : 0]) : v[0];
    });
    if (res) {
      e.template add_residual<NV>(load_low<NV>(res), v);
      res += oc;
    }
    store_low<NV>(y, plain ? plain_narrow<4>(v, magic) : e.narrow(v));
  }
}

// Sums of M rows from registers to their first outputs at out.
template <int M, int NV>
IRK_INLINE void finish_rows(const int32x4_t (&acc)[M][NV], const QFinish& f, char* out, const int8_t* res) {
  if (!f.plain) {
    int32_t sums[M * 16];
    unroll<M>([&](auto r) IRK_LAMBDA {
      unroll<4>([&](auto v) IRK_LAMBDA { vst1q_s32(sums + 16 * r + 4 * v, acc[r][v < NV ? v : NV - 1]); });
    });
    finish_memory<NV>(sums, M, f, out, res);
    return;
  }
  int8_t* y = reinterpret_cast<int8_t*>(out);
  float32x4_t m[NV];
  load_vectors<NV>(f.m, m);
  const float32x4_t magic = vld1q_dup_f32(later(f.magic));
  if (!res) {
    unroll<M>([&](auto r) IRK_LAMBDA {
      store_low<NV>(y, plain_bytes<NV>(acc[r], m, magic));
      y += f.oc;
    });
    return;
  }
  const QConvParams& p = *later(f.p);
  const RequantNeon e(p.zy, p.lo, p.hi, p.zr, p.mr);
  unroll<M>([&](auto r) IRK_LAMBDA {
    float32x4_t v[NV];
    unroll<NV>([&](auto c) IRK_LAMBDA { v[c] = vmulq_f32(vcvtq_f32_s32(acc[r][c]), m[c]); });
    e.template add_residual<NV>(load_low<NV>(res), v);
    store_low<NV>(y, plain_narrow<NV>(v, magic));
    y += f.oc, res += f.oc;
  });
}

}  // namespace
}  // namespace irk
