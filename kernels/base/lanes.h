// Float and int32 lanes that come from and go to int8, for the elementwise, pooling and quantized families: their
// generic.h is written once against One (plain C++) and Lanes (the widest of the ISA a file is compiled for).
//
// Arithmetic is that of vec_<isa>.h: one IEEE operation each, so every lane of every ISA has the same bits. All in an
// anonymous namespace: code compiled for a strong ISA must never be linked for a weak one.
#pragma once
#include <stdint.h>
#include <string.h>

#include "base/vec_scalar.h"
#if defined(__AVX512F__)
#include "base/vec_avx512.h"
#elif defined(__AVX2__)
#include "base/vec_avx2.h"
#elif defined(__ARM_NEON)
#include "base/vec_neon.h"
#endif

namespace {

// What follows from V's own operations.
template <class V>
struct LanesOf : V {
  using F = typename V::F;
  using I = typename V::I;
  // lo <= x <= hi; lo where x is NaN.
  static F clamp(F x, F lo, F hi) { return V::min(V::max(x, lo), hi); }
  static F nan_to_zero(F x) { return V::sel(V::nan(x), V::set(0.0f), x); }
  // The larger one, acc when equal; NaN once either is.
  static F max_nan(F acc, F x) { return V::sel(V::nan(x), x, V::max(x, acc)); }
};

// rint: nearest integer, ties to even, of |x| < 2^22. load8 and store8: N int8 values, in range when stored.
struct One : LanesOf<irk::VecScalar> {
  static I loadi(const int32_t* p) { return *p; }
  // No sum here overflows, and GCC 12.2 -O3 miscompiles qreduce's loop when it is written with VecScalar's wrapping
  // addi: three of four partial sums get lost (test_mean_of_extremes_is_exact).
  static I addi(I a, I b) { return a + b; }
  static I muli(I a, I b) { return a * b; }
  static I clampi(I x, I lo, I hi) { return x < lo ? lo : x > hi ? hi : x; }
  static I rint(F x) { return as_i(x + 12582912.0f) - 0x4B400000; }  // 1.5 * 2^23 leaves no room for a fraction
  static I load8(const int8_t* p) { return *p; }
  static void store8(int8_t* p, I v) { *p = static_cast<int8_t>(v); }
};

#if defined(__AVX512F__)

struct Lanes : LanesOf<irk::VecAvx512> {
  static I loadi(const int32_t* p) { return _mm512_loadu_si512(p); }
  static I muli(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static I clampi(I x, I lo, I hi) { return _mm512_min_epi32(_mm512_max_epi32(x, lo), hi); }
  static I rint(F x) { return _mm512_cvt_roundps_epi32(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static I load8(const int8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static void store8(int8_t* p, I v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v)); }
};

#elif defined(__AVX2__)

struct Lanes : LanesOf<irk::VecAvx2> {
  static I loadi(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static I muli(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static I clampi(I x, I lo, I hi) { return _mm256_min_epi32(_mm256_max_epi32(x, lo), hi); }
  static I rint(F x) { return _mm256_cvtps_epi32(x); }
  static I load8(const int8_t* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
  static void store8(int8_t* p, I v) {
    const __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(h, h));
  }
};

#elif defined(__ARM_NEON)

struct Quad : LanesOf<irk::VecNeon> {
  static I muli(I a, I b) { return vmulq_s32(a, b); }
  static I clampi(I x, I lo, I hi) { return vminq_s32(vmaxq_s32(x, lo), hi); }
};

// Two registers, so that int8 comes and goes in eight bytes.
struct Lanes {
  static constexpr int N = 8;
  struct F {
    float32x4_t a, b;
  };
  struct I {
    int32x4_t a, b;
  };
  static F set(float v) { return {Quad::set(v), Quad::set(v)}; }
  static F load(const float* p) { return {Quad::load(p), Quad::load(p + 4)}; }
  static void store(float* p, F v) {
    Quad::store(p, v.a);
    Quad::store(p + 4, v.b);
  }
  static F add(F x, F y) { return {Quad::add(x.a, y.a), Quad::add(x.b, y.b)}; }
  static F mul(F x, F y) { return {Quad::mul(x.a, y.a), Quad::mul(x.b, y.b)}; }
  static F div(F x, F y) { return {Quad::div(x.a, y.a), Quad::div(x.b, y.b)}; }
  static F clamp(F x, F lo, F hi) { return {Quad::clamp(x.a, lo.a, hi.a), Quad::clamp(x.b, lo.b, hi.b)}; }
  static F nan_to_zero(F x) { return {Quad::nan_to_zero(x.a), Quad::nan_to_zero(x.b)}; }
  static F max_nan(F acc, F x) { return {Quad::max_nan(acc.a, x.a), Quad::max_nan(acc.b, x.b)}; }
  static F to_f(I v) { return {Quad::to_f(v.a), Quad::to_f(v.b)}; }
  static I seti(int32_t v) { return {Quad::seti(v), Quad::seti(v)}; }
  static I loadi(const int32_t* p) { return {vld1q_s32(p), vld1q_s32(p + 4)}; }
  static I addi(I x, I y) { return {Quad::addi(x.a, y.a), Quad::addi(x.b, y.b)}; }
  static I subi(I x, I y) { return {Quad::subi(x.a, y.a), Quad::subi(x.b, y.b)}; }
  static I muli(I x, I y) { return {Quad::muli(x.a, y.a), Quad::muli(x.b, y.b)}; }
  static I clampi(I x, I lo, I hi) { return {Quad::clampi(x.a, lo.a, hi.a), Quad::clampi(x.b, lo.b, hi.b)}; }
  static I rint(F x) { return {vcvtnq_s32_f32(x.a), vcvtnq_s32_f32(x.b)}; }
  static I load8(const int8_t* p) {
    const int16x8_t h = vmovl_s8(vld1_s8(p));
    return {vmovl_s16(vget_low_s16(h)), vmovl_s16(vget_high_s16(h))};
  }
  static void store8(int8_t* p, I v) { vst1_s8(p, vmovn_s16(vcombine_s16(vmovn_s32(v.a), vmovn_s32(v.b)))); }
};

#endif

}  // namespace
