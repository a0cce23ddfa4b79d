#include <immintrin.h>

#include "move/generic.h"

namespace {

__m128i load16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
void store16(void* p, __m128i v) { _mm_storeu_si128(static_cast<__m128i*>(p), v); }

// Three planes and triples: element i of channel c is at 3 i + c, and 3 has an inverse modulo 8 and 16. So each channel
// is shuffled once to where its elements belong modulo the vector length, and the vectors are then picked lane by lane.

struct Bytes : PlainTile<uint8_t> {
  static constexpr int64_t kTile = 16;

  static void tile(uint8_t* dst, int64_t ds, const uint8_t* src, int64_t ss) {
    __m128i r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = load16(src + i * ss);
    for (int stage = 0; stage < 4; stage++) {  // each stage shuffles the 256 bytes perfectly once; four transpose
      for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm_unpacklo_epi8(r[i], r[i + 8]);
        t[2 * i + 1] = _mm_unpackhi_epi8(r[i], r[i + 8]);
      }
      for (int i = 0; i < 16; i++) r[i] = t[i];
    }
    for (int i = 0; i < 16; i++) store16(dst + i * ds, r[i]);
  }

  // 0xFF in the lanes of vector k (of three) that hold a channel congruent to c.
  static __m128i lanes(int k, int c) {
    alignas(16) uint8_t m[16];
    for (int i = 0; i < 16; i++) m[i] = (16 * k + i) % 3 == c ? 0xFF : 0;
    return _mm_load_si128(reinterpret_cast<const __m128i*>(m));
  }

  static void interleave3(uint8_t* dst, const uint8_t* src, int64_t plane, int64_t n) {
    __m128i shuffle[3], pick1[3], pick2[3];
    for (int c = 0; c < 3; c++) {
      alignas(16) uint8_t m[16];
      for (int i = 0; i < 16; i++) m[(3 * i + c) % 16] = static_cast<uint8_t>(i);
      shuffle[c] = _mm_load_si128(reinterpret_cast<const __m128i*>(m));
      pick1[c] = lanes(c, 1);
      pick2[c] = lanes(c, 2);
    }
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      __m128i x[3];
      for (int c = 0; c < 3; c++) x[c] = _mm_shuffle_epi8(load16(src + c * plane + i), shuffle[c]);
      for (int k = 0; k < 3; k++)
        store16(dst + 3 * i + 16 * k, _mm_blendv_epi8(_mm_blendv_epi8(x[0], x[1], pick1[k]), x[2], pick2[k]));
    }
    PlainTile<uint8_t>::interleave3(dst + 3 * i, src + i, plane, n - i);
  }

  static void deinterleave3(uint8_t* dst, int64_t plane, const uint8_t* src, int64_t n) {
    __m128i shuffle[3], in[3][3];
    for (int c = 0; c < 3; c++) {
      alignas(16) uint8_t m[16];
      for (int i = 0; i < 16; i++) m[i] = static_cast<uint8_t>((3 * i + c) % 16);
      shuffle[c] = _mm_load_si128(reinterpret_cast<const __m128i*>(m));
      for (int k = 0; k < 3; k++) in[c][k] = lanes(k, c);
    }
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      __m128i v[3];
      for (int k = 0; k < 3; k++) v[k] = load16(src + 3 * i + 16 * k);
      for (int c = 0; c < 3; c++) {
        const __m128i x = _mm_blendv_epi8(_mm_blendv_epi8(v[0], v[1], in[c][1]), v[2], in[c][2]);
        store16(dst + c * plane + i, _mm_shuffle_epi8(x, shuffle[c]));
      }
    }
    PlainTile<uint8_t>::deinterleave3(dst + i, plane, src + 3 * i, n - i);
  }
};

struct Shorts : PlainTile<uint16_t> {
  static void tile(uint16_t* dst, int64_t ds, const uint16_t* src, int64_t ss) {
    __m128i r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = load16(src + i * ss);
    for (int stage = 0; stage < 3; stage++) {
      for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm_unpacklo_epi16(r[i], r[i + 4]);
        t[2 * i + 1] = _mm_unpackhi_epi16(r[i], r[i + 4]);
      }
      for (int i = 0; i < 8; i++) r[i] = t[i];
    }
    for (int i = 0; i < 8; i++) store16(dst + i * ds, r[i]);
  }
};

struct Words : PlainTile<uint32_t> {
  static void tile(uint32_t* dst, int64_t ds, const uint32_t* src, int64_t ss) {
    const float* s = reinterpret_cast<const float*>(src);
    float* d = reinterpret_cast<float*>(dst);
    __m256 r[8], t[8];
    for (int i = 0; i < 4; i++) {  // rows i and i + 4 share the 128-bit halves of columns 0-3 and 4-7
      r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(s + i * ss)), _mm_loadu_ps(s + (i + 4) * ss), 1);
      r[i + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(s + i * ss + 4)),
                                      _mm_loadu_ps(s + (i + 4) * ss + 4), 1);
    }
    for (int h = 0; h < 8; h += 4) {
      t[h] = _mm256_unpacklo_ps(r[h], r[h + 1]);
      t[h + 1] = _mm256_unpackhi_ps(r[h], r[h + 1]);
      t[h + 2] = _mm256_unpacklo_ps(r[h + 2], r[h + 3]);
      t[h + 3] = _mm256_unpackhi_ps(r[h + 2], r[h + 3]);
      _mm256_storeu_ps(d + h * ds, _mm256_shuffle_ps(t[h], t[h + 2], 0x44));
      _mm256_storeu_ps(d + (h + 1) * ds, _mm256_shuffle_ps(t[h], t[h + 2], 0xEE));
      _mm256_storeu_ps(d + (h + 2) * ds, _mm256_shuffle_ps(t[h + 1], t[h + 3], 0x44));
      _mm256_storeu_ps(d + (h + 3) * ds, _mm256_shuffle_ps(t[h + 1], t[h + 3], 0xEE));
    }
  }

  static __m256 load8(const uint32_t* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static void store8(uint32_t* p, __m256 v) { _mm256_storeu_ps(reinterpret_cast<float*>(p), v); }

  // Blend masks: lane j of vector k holds channel (8 k + j) % 3.
  static void interleave3(uint32_t* dst, const uint32_t* src, int64_t plane, int64_t n) {
    const __m256i to0 = _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5), to1 = _mm256_setr_epi32(5, 0, 3, 6, 1, 4, 7, 2),
                  to2 = _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
      const __m256 x = _mm256_permutevar8x32_ps(load8(src + i), to0);
      const __m256 y = _mm256_permutevar8x32_ps(load8(src + plane + i), to1);
      const __m256 z = _mm256_permutevar8x32_ps(load8(src + 2 * plane + i), to2);
      store8(dst + 3 * i, _mm256_blend_ps(_mm256_blend_ps(x, y, 0x92), z, 0x24));
      store8(dst + 3 * i + 8, _mm256_blend_ps(_mm256_blend_ps(x, y, 0x24), z, 0x49));
      store8(dst + 3 * i + 16, _mm256_blend_ps(_mm256_blend_ps(x, y, 0x49), z, 0x92));
    }
    PlainTile<uint32_t>::interleave3(dst + 3 * i, src + i, plane, n - i);
  }

  static void deinterleave3(uint32_t* dst, int64_t plane, const uint32_t* src, int64_t n) {
    const __m256i at0 = _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5), at1 = _mm256_setr_epi32(1, 4, 7, 2, 5, 0, 3, 6),
                  at2 = _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
      const __m256 u = load8(src + 3 * i), v = load8(src + 3 * i + 8), w = load8(src + 3 * i + 16);
      const __m256 x = _mm256_blend_ps(_mm256_blend_ps(u, v, 0x92), w, 0x24);
      const __m256 y = _mm256_blend_ps(_mm256_blend_ps(u, v, 0x24), w, 0x49);
      const __m256 z = _mm256_blend_ps(_mm256_blend_ps(u, v, 0x49), w, 0x92);
      store8(dst + i, _mm256_permutevar8x32_ps(x, at0));
      store8(dst + plane + i, _mm256_permutevar8x32_ps(y, at1));
      store8(dst + 2 * plane + i, _mm256_permutevar8x32_ps(z, at2));
    }
    PlainTile<uint32_t>::deinterleave3(dst + i, plane, src + 3 * i, n - i);
  }
};

}  // namespace

#define KERNEL(types, T, Tile)                                                                                 \
  extern "C" void irk_move_##types##_avx2(void* const* bufs, const void* params, int64_t begin, int64_t end) { \
    run_move<T, Tile>(bufs, params, begin, end);                                                               \
  }
KERNEL(b1, uint8_t, Bytes)
KERNEL(b2, uint16_t, Shorts)
KERNEL(b4, uint32_t, Words)
