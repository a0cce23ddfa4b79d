// Quantizer<L>: float32 to int8, kStep values at a time, and planes of an image to channels-last pixels.
//
// The result is round(x * m) + z, ties to even, saturated; NaN gives z. Each form below gives these very bits:
// - by L: beyond +-256 any zero point saturates, and so far rint is exact.
// - by saturating arithmetic: the conversion gives -2^31 below its range, so only what is above needs a limit;
// narrowing
//   to 16 bits, adding z there and narrowing to 8 bits all saturate, and no such limit lies within +-256.
#pragma once
#include "base/lanes.h"
#include "base/unroll.h"

namespace {

template <class L>
struct Quantizer {
  static constexpr int kStep = L::N;
  typename L::F m;
  typename L::I z;
  Quantizer(float scale, int32_t zero) : m(L::set(scale)), z(L::seti(zero)) {}
  void operator()(const float* x, int8_t* y) const {
    const typename L::F v = L::clamp(L::nan_to_zero(L::mul(L::load(x), m)), L::set(-256.0f), L::set(256.0f));
    L::store8(y, L::clampi(L::addi(L::rint(v), z), L::seti(-128), L::seti(127)));
  }
  // Values of three planes, `plane` apart, as pixels.
  void triples(const float* x, int64_t plane, int8_t* y) const {
    for (int c = 0; c < 3; c++) {
      int8_t q[kStep];
      (*this)(x + c * plane, q);
      for (int i = 0; i < kStep; i++) y[3 * i + c] = q[i];
    }
  }
};

#if defined(__AVX512F__)

template <>
struct Quantizer<Lanes> {
  static constexpr int kStep = 64;
  __m512 m;
  __m512i z;
  Quantizer(float scale, int32_t zero) : m(_mm512_set1_ps(scale)), z(_mm512_set1_epi16(static_cast<int16_t>(zero))) {}

  IRK_INLINE __m512i words(const float* x) const {
    const __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x), m);
    return _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(v, v, _CMP_ORD_Q), _mm512_min_ps(v, _mm512_set1_ps(32767.0f)));
  }
  // Four neighbours stay together, group 4 * lane + vector.
  IRK_INLINE __m512i bytes(const float* x) const {
    const __m512i a = _mm512_adds_epi16(_mm512_packs_epi32(words(x), words(x + 16)), z);
    return _mm512_packs_epi16(a, _mm512_adds_epi16(_mm512_packs_epi32(words(x + 32), words(x + 48)), z));
  }
  IRK_INLINE __m512i in_order(const float* x) const {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, bytes(x));
  }
  IRK_INLINE void operator()(const float* x, int8_t* y) const { _mm512_storeu_si512(y, in_order(x)); }

  // Channel c of pixel i goes to byte 3 i + c: in each 128-bit lane, shuffled to where it belongs modulo 16, then
  // picked for the three vectors of 16 bytes that the lane gives, which follow each other.
  IRK_INLINE void triples(const float* x, int64_t plane, int8_t* y) const {
    const __m512i to0 = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10, 5));
    const __m512i to1 = _mm512_broadcast_i32x4(_mm_setr_epi8(5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10));
    const __m512i to2 = _mm512_broadcast_i32x4(_mm_setr_epi8(10, 5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15));
    const __m512i a = _mm512_shuffle_epi8(in_order(x), to0);
    const __m512i b = _mm512_shuffle_epi8(in_order(x + plane), to1);
    const __m512i c = _mm512_shuffle_epi8(in_order(x + 2 * plane), to2);
    // Byte j of vector k is of channel (16 k + j) % 3 = (k + j) % 3.
    constexpr uint64_t k0 = 0x9249924992499249, k1 = 0x2492249224922492, k2 = 0x4924492449244924;
    const __m512i v0 = _mm512_mask_blend_epi8(k2, _mm512_mask_blend_epi8(k1, a, b), c);
    const __m512i v1 = _mm512_mask_blend_epi8(k1, _mm512_mask_blend_epi8(k0, a, b), c);
    const __m512i v2 = _mm512_mask_blend_epi8(k0, _mm512_mask_blend_epi8(k2, a, b), c);
    store(y, v0, v1, v2);
  }

 private:
  static IRK_INLINE void store(int8_t* y, __m512i v0, __m512i v1, __m512i v2) {
    // 64-bit words of v0 (0..7) and v1 (8..15), then v2 (8..15) for those still missing.
    const __m512i first = _mm512_permutex2var_epi64(v0, _mm512_setr_epi64(0, 1, 8, 9, 0, 0, 2, 3), v1);
    const __m512i mid = _mm512_permutex2var_epi64(v0, _mm512_setr_epi64(10, 11, 0, 0, 4, 5, 12, 13), v1);
    const __m512i end = _mm512_permutex2var_epi64(v0, _mm512_setr_epi64(0, 0, 6, 7, 14, 15, 0, 0), v1);
    _mm512_storeu_si512(y, _mm512_permutex2var_epi64(first, _mm512_setr_epi64(0, 1, 2, 3, 8, 9, 6, 7), v2));
    _mm512_storeu_si512(y + 64, _mm512_permutex2var_epi64(mid, _mm512_setr_epi64(0, 1, 10, 11, 4, 5, 6, 7), v2));
    _mm512_storeu_si512(y + 128, _mm512_permutex2var_epi64(end, _mm512_setr_epi64(12, 13, 2, 3, 4, 5, 14, 15), v2));
  }
};

#elif defined(__AVX2__)

template <>
struct Quantizer<Lanes> {
  static constexpr int kStep = 32;
  __m256 m;
  __m256i z;
  Quantizer(float scale, int32_t zero) : m(_mm256_set1_ps(scale)), z(_mm256_set1_epi16(static_cast<int16_t>(zero))) {}

  IRK_INLINE __m256i words(const float* x) const {
    const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x), m);
    const __m256 number = _mm256_and_ps(v, _mm256_cmp_ps(v, v, _CMP_ORD_Q));
    return _mm256_cvtps_epi32(_mm256_min_ps(number, _mm256_set1_ps(32767.0f)));
  }
  IRK_INLINE void operator()(const float* x, int8_t* y) const {
    const __m256i a = _mm256_adds_epi16(_mm256_packs_epi32(words(x), words(x + 8)), z);
    const __m256i b = _mm256_adds_epi16(_mm256_packs_epi32(words(x + 16), words(x + 24)), z);
    const __m256i q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), q);
  }
  // Of sixteen pixels, channel c goes to byte 3 i + c: shuffled to where it belongs modulo 16, then picked.
  IRK_INLINE void triples(const float* x, int64_t plane, int8_t* y) const {
    alignas(32) int8_t q[3][kStep];
    for (int c = 0; c < 3; c++) (*this)(x + c * plane, q[c]);
    const __m128i to0 = _mm_setr_epi8(0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10, 5);
    const __m128i to1 = _mm_setr_epi8(5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10);
    const __m128i to2 = _mm_setr_epi8(10, 5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15);
    const __m128i at0 = _mm_setr_epi8(-1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1);
    const __m128i at1 = _mm_setr_epi8(0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0);
    const __m128i at2 = _mm_setr_epi8(0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0);
    const auto pick = [](__m128i a, __m128i b, __m128i of_b, __m128i c, __m128i of_c)
                          IRK_LAMBDA { return _mm_blendv_epi8(_mm_blendv_epi8(a, b, of_b), c, of_c); };
    for (int i = 0; i < kStep; i += 16) {
      const __m128i a = _mm_shuffle_epi8(_mm_load_si128(reinterpret_cast<const __m128i*>(q[0] + i)), to0);
      const __m128i b = _mm_shuffle_epi8(_mm_load_si128(reinterpret_cast<const __m128i*>(q[1] + i)), to1);
      const __m128i c = _mm_shuffle_epi8(_mm_load_si128(reinterpret_cast<const __m128i*>(q[2] + i)), to2);
      __m128i* to = reinterpret_cast<__m128i*>(y + 3 * i);
      _mm_storeu_si128(to, pick(a, b, at1, c, at2));
      _mm_storeu_si128(to + 1, pick(a, b, at0, c, at1));
      _mm_storeu_si128(to + 2, pick(a, b, at2, c, at0));
    }
  }
};

#elif defined(__ARM_NEON)

template <>
struct Quantizer<Lanes> {
  static constexpr int kStep = 16;
  float m;
  int16x8_t z;
  IRK_INLINE Quantizer(float scale, int32_t zero) : m(scale), z(vdupq_n_s16(static_cast<int16_t>(zero))) {}

  // The conversion saturates on both sides and makes NaN zero.
  IRK_INLINE int8x16_t bytes(const float* x) const {
    int32x4_t q[4];
    irk::unroll<4>([&](auto i) IRK_LAMBDA { q[i] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * i), m)); });
    const int16x8_t a = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q[0]), q[1]), z);
    const int16x8_t b = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q[2]), q[3]), z);
    return vqmovn_high_s16(vqmovn_s16(a), b);
  }
  IRK_INLINE void operator()(const float* x, int8_t* y) const { vst1q_s8(y, bytes(x)); }
  IRK_INLINE void triples(const float* x, int64_t plane, int8_t* y) const {
    const int8x16x3_t pixels = {{bytes(x), bytes(x + plane), bytes(x + 2 * plane)}};
    vst3q_s8(y, pixels);  // a macro with clang, so no braces inside
  }
};

#endif

}  // namespace
