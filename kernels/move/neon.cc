#include <arm_neon.h>

#include "move/generic.h"

namespace {

struct Bytes : PlainTile<uint8_t> {
  static void tile(uint8_t* dst, int64_t ds, const uint8_t* src, int64_t ss) {
    uint8x8_t r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = vld1_u8(src + i * ss);
    for (int stage = 0; stage < 3; stage++) {  // each stage shuffles the 64 bytes perfectly once; three transpose
      for (int i = 0; i < 4; i++) {
        t[2 * i] = vzip1_u8(r[i], r[i + 4]);
        t[2 * i + 1] = vzip2_u8(r[i], r[i + 4]);
      }
      for (int i = 0; i < 8; i++) r[i] = t[i];
    }
    for (int i = 0; i < 8; i++) vst1_u8(dst + i * ds, r[i]);
  }
  static void interleave3(uint8_t* dst, const uint8_t* src, int64_t plane, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const uint8x16x3_t v = {{vld1q_u8(src + i), vld1q_u8(src + plane + i), vld1q_u8(src + 2 * plane + i)}};
      vst3q_u8(dst + 3 * i, v);
    }
    PlainTile<uint8_t>::interleave3(dst + 3 * i, src + i, plane, n - i);
  }
  static void deinterleave3(uint8_t* dst, int64_t plane, const uint8_t* src, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const uint8x16x3_t v = vld3q_u8(src + 3 * i);
      for (int c = 0; c < 3; c++) vst1q_u8(dst + c * plane + i, v.val[c]);
    }
    PlainTile<uint8_t>::deinterleave3(dst + i, plane, src + 3 * i, n - i);
  }
};

struct Words : PlainTile<uint32_t> {
  static constexpr int64_t kTile = 4;
  static void tile(uint32_t* dst, int64_t ds, const uint32_t* src, int64_t ss) {
    uint32x4_t r[4], t[4];
    for (int i = 0; i < 4; i++) r[i] = vld1q_u32(src + i * ss);
    for (int stage = 0; stage < 2; stage++) {
      for (int i = 0; i < 2; i++) {
        t[2 * i] = vzip1q_u32(r[i], r[i + 2]);
        t[2 * i + 1] = vzip2q_u32(r[i], r[i + 2]);
      }
      for (int i = 0; i < 4; i++) r[i] = t[i];
    }
    for (int i = 0; i < 4; i++) vst1q_u32(dst + i * ds, r[i]);
  }
  static void interleave3(uint32_t* dst, const uint32_t* src, int64_t plane, int64_t n) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
      const uint32x4x3_t v = {{vld1q_u32(src + i), vld1q_u32(src + plane + i), vld1q_u32(src + 2 * plane + i)}};
      vst3q_u32(dst + 3 * i, v);
    }
    PlainTile<uint32_t>::interleave3(dst + 3 * i, src + i, plane, n - i);
  }
  static void deinterleave3(uint32_t* dst, int64_t plane, const uint32_t* src, int64_t n) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
      const uint32x4x3_t v = vld3q_u32(src + 3 * i);
      for (int c = 0; c < 3; c++) vst1q_u32(dst + c * plane + i, v.val[c]);
    }
    PlainTile<uint32_t>::deinterleave3(dst + i, plane, src + 3 * i, n - i);
  }
};

}  // namespace

#define KERNEL(types, T, Tile)                                                                                 \
  extern "C" void irk_move_##types##_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) { \
    run_move<T, Tile>(bufs, params, begin, end);                                                               \
  }
KERNEL(b1, uint8_t, Bytes)
KERNEL(b4, uint32_t, Words)
