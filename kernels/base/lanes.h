// A few operations on W lanes of float and int32, one struct an ISA: a family's generic.h is written once against them.
//
// Every operation rounds as IEEE 754 says and none is fused, so that all structs give the same bits. One is plain C++;
// Lanes is the widest struct of the ISA the file is compiled for. All in an anonymous namespace: code compiled for a
// strong ISA must never be linked for a weak one.
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace {

// One lane.
struct One {
  static constexpr int W = 1;
  typedef float F;
  typedef int32_t I;
  static F set(float v) { return v; }
  static F load(const float* p) { return *p; }
  static void store(float* p, F v) { *p = v; }
  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F div(F a, F b) { return a / b; }
  static F clamp(F x, F lo, F hi) {
    x = x > lo ? x : lo;
    return x < hi ? x : hi;
  }
  static F nan_to_zero(F x) { return x == x ? x : 0.0f; }
  static F max_nan(F acc, F x) { return x > acc || x != x ? x : acc; }
  static I iset(int32_t v) { return v; }
  static I iload(const int32_t* p) { return *p; }
  static void istore(int32_t* p, I v) { *p = v; }
  static I iadd(I a, I b) { return a + b; }
  static I isub(I a, I b) { return a - b; }
  static I imul(I a, I b) { return a * b; }
  static I iclamp(I x, I lo, I hi) { return x < lo ? lo : x > hi ? hi : x; }
  static F to_float(I v) { return static_cast<float>(v); }
  // Nearest integer, ties to even, of |x| < 2^22: the sum has no fraction bits left, so the addition does the rounding.
  static I rint(F x) {
    const float t = x + 12582912.0f;  // 1.5 * 2^23
    int32_t bits;
    memcpy(&bits, &t, sizeof bits);
    return bits - 0x4B400000;
  }
  static I load8(const int8_t* p) { return *p; }
  static void store8(int8_t* p, I v) { *p = static_cast<int8_t>(v); }  // v fits int8
};

#if defined(__AVX512F__)

struct Lanes {
  static constexpr int W = 16;
  typedef __m512 F;
  typedef __m512i I;
  static F set(float v) { return _mm512_set1_ps(v); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F clamp(F x, F lo, F hi) { return _mm512_min_ps(_mm512_max_ps(x, lo), hi); }
  static F nan_to_zero(F x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x); }
  static F max_nan(F acc, F x) {  // max(x, acc) is acc when one is NaN or both are equal
    return _mm512_mask_mov_ps(_mm512_max_ps(x, acc), _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
  }
  static I iset(int32_t v) { return _mm512_set1_epi32(v); }
  static I iload(const int32_t* p) { return _mm512_loadu_si512(p); }
  static void istore(int32_t* p, I v) { _mm512_storeu_si512(p, v); }
  static I iadd(I a, I b) { return _mm512_add_epi32(a, b); }
  static I isub(I a, I b) { return _mm512_sub_epi32(a, b); }
  static I imul(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static I iclamp(I x, I lo, I hi) { return _mm512_min_epi32(_mm512_max_epi32(x, lo), hi); }
  static F to_float(I v) { return _mm512_cvtepi32_ps(v); }
  static I rint(F x) { return _mm512_cvt_roundps_epi32(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static I load8(const int8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static void store8(int8_t* p, I v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v)); }
};

#elif defined(__AVX2__)

struct Lanes {
  static constexpr int W = 8;
  typedef __m256 F;
  typedef __m256i I;
  static F set(float v) { return _mm256_set1_ps(v); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F clamp(F x, F lo, F hi) { return _mm256_min_ps(_mm256_max_ps(x, lo), hi); }
  static F nan_to_zero(F x) { return _mm256_and_ps(x, _mm256_cmp_ps(x, x, _CMP_ORD_Q)); }
  static F max_nan(F acc, F x) {  // max(x, acc) is acc when one is NaN or both are equal
    return _mm256_blendv_ps(_mm256_max_ps(x, acc), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  }
  static I iset(int32_t v) { return _mm256_set1_epi32(v); }
  static I iload(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static void istore(int32_t* p, I v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static I iadd(I a, I b) { return _mm256_add_epi32(a, b); }
  static I isub(I a, I b) { return _mm256_sub_epi32(a, b); }
  static I imul(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static I iclamp(I x, I lo, I hi) { return _mm256_min_epi32(_mm256_max_epi32(x, lo), hi); }
  static F to_float(I v) { return _mm256_cvtepi32_ps(v); }
  static I rint(F x) { return _mm256_cvtps_epi32(x); }
  static I load8(const int8_t* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
  static void store8(int8_t* p, I v) {
    const __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(h, h));
  }
};

#elif defined(__ARM_NEON)

struct Lanes {
  static constexpr int W = 8;  // two registers, so that int8 comes and goes in 8 bytes
  struct F {
    float32x4_t a, b;
  };
  struct I {
    int32x4_t a, b;
  };
  static F set(float v) { return {vdupq_n_f32(v), vdupq_n_f32(v)}; }
  static F load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
  static void store(float* p, F v) {
    vst1q_f32(p, v.a);
    vst1q_f32(p + 4, v.b);
  }
  static F add(F x, F y) { return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b)}; }
  static F sub(F x, F y) { return {vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b)}; }
  static F mul(F x, F y) { return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b)}; }
  static F div(F x, F y) { return {vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b)}; }
  static float32x4_t clamp4(float32x4_t x, float32x4_t lo, float32x4_t hi) {
    x = vbslq_f32(vcgtq_f32(x, lo), x, lo);
    return vbslq_f32(vcltq_f32(x, hi), x, hi);
  }
  static F clamp(F x, F lo, F hi) { return {clamp4(x.a, lo.a, hi.a), clamp4(x.b, lo.b, hi.b)}; }
  static float32x4_t ordered4(float32x4_t x) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vceqq_f32(x, x)));
  }
  static F nan_to_zero(F x) { return {ordered4(x.a), ordered4(x.b)}; }
  static float32x4_t max4(float32x4_t acc, float32x4_t x) {
    return vbslq_f32(vorrq_u32(vcgtq_f32(x, acc), vmvnq_u32(vceqq_f32(x, x))), x, acc);
  }
  static F max_nan(F acc, F x) { return {max4(acc.a, x.a), max4(acc.b, x.b)}; }
  static I iset(int32_t v) { return {vdupq_n_s32(v), vdupq_n_s32(v)}; }
  static I iload(const int32_t* p) { return {vld1q_s32(p), vld1q_s32(p + 4)}; }
  static void istore(int32_t* p, I v) {
    vst1q_s32(p, v.a);
    vst1q_s32(p + 4, v.b);
  }
  static I iadd(I x, I y) { return {vaddq_s32(x.a, y.a), vaddq_s32(x.b, y.b)}; }
  static I isub(I x, I y) { return {vsubq_s32(x.a, y.a), vsubq_s32(x.b, y.b)}; }
  static I imul(I x, I y) { return {vmulq_s32(x.a, y.a), vmulq_s32(x.b, y.b)}; }
  static I iclamp(I x, I lo, I hi) {
    return {vminq_s32(vmaxq_s32(x.a, lo.a), hi.a), vminq_s32(vmaxq_s32(x.b, lo.b), hi.b)};
  }
  static F to_float(I v) { return {vcvtq_f32_s32(v.a), vcvtq_f32_s32(v.b)}; }
  static I rint(F x) { return {vcvtnq_s32_f32(x.a), vcvtnq_s32_f32(x.b)}; }
  static I load8(const int8_t* p) {
    const int16x8_t h = vmovl_s8(vld1_s8(p));
    return {vmovl_s16(vget_low_s16(h)), vmovl_s16(vget_high_s16(h))};
  }
  static void store8(int8_t* p, I v) { vst1_s8(p, vmovn_s16(vcombine_s16(vmovn_s32(v.a), vmovn_s32(v.b)))); }
};

#endif

}  // namespace
