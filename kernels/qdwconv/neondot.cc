// NEON with dot products: groups of four rows; a vector holds four taps of four channels.
#include "qdwconv/direct_dot.h"
#include "qdwconv/neon_common.h"
#include "qdwconv/tall_dot.h"

namespace irk {
namespace {

struct Ops {
  static constexpr int kDepth = 4, kVectors = 4, kVectorBytes = 16;

  static void interleave(const QDwParams& p, const QDwBlock& b, const int8_t* const* rows, int64_t col, int64_t count,
                         char* dst) {
    const int8x16_t zx = vdupq_n_s8(static_cast<int8_t>(p.zx));
    const int64_t vector = b.vector;
    int8_t* d = reinterpret_cast<int8_t*>(dst);
    for (int64_t i = 0; i < count; i++, col += p.sw, d += 16) {
      const bool inside = col >= 0 && col < p.iw;
      int8x16_t r[4];
      unroll<4>([&](auto t) IRK_LAMBDA { r[t] = inside && rows[t] ? load_channels(rows[t] + col * p.c, b.n) : zx; });
      const int16x8_t ab0 = vreinterpretq_s16_s8(vzip1q_s8(r[0], r[1]));
      const int16x8_t ab1 = vreinterpretq_s16_s8(vzip2q_s8(r[0], r[1]));
      const int16x8_t cd0 = vreinterpretq_s16_s8(vzip1q_s8(r[2], r[3]));
      const int16x8_t cd1 = vreinterpretq_s16_s8(vzip2q_s8(r[2], r[3]));
      vst1q_s8(d, vreinterpretq_s8_s16(vzip1q_s16(ab0, cd0)));
      vst1q_s8(d + vector, vreinterpretq_s8_s16(vzip2q_s16(ab0, cd0)));
      vst1q_s8(d + 2 * vector, vreinterpretq_s8_s16(vzip1q_s16(ab1, cd1)));
      vst1q_s8(d + 3 * vector, vreinterpretq_s8_s16(vzip2q_s16(ab1, cd1)));
    }
  }

  static constexpr int U = 4;
  static void sum_taps(const QDwParams& p, const QDwBlock& b, const int64_t* offsets, const char* src,
                       const uint8_t* weights, int32_t* sums) {
    const int8_t* w = reinterpret_cast<const int8_t*>(weights);
    const int64_t vector = b.vector;
    int32x4_t acc[U][4];
    unroll<4>([&](auto q) IRK_LAMBDA {
      acc[0][q] = vld1q_s32(p.bias + b.lanes + 4 * q);
      unroll<U - 1>([&](auto u) IRK_LAMBDA { acc[u + 1][q] = acc[0][q]; });
    });
    for (int64_t k = 0; k < p.taps; k++, w += 64) {
      const int8_t* t = reinterpret_cast<const int8_t*>(src + offsets[k]);
      unroll<4>([&](auto q) IRK_LAMBDA {
        const int8x16_t wq = vld1q_s8(w + 16 * q);
        unroll<U>([&](auto u) IRK_LAMBDA { acc[u][q] = vdotq_s32(acc[u][q], vld1q_s8(t + 16 * u), wq); });
        t += vector;
      });
    }
    unroll<U>([&](auto u)
                  IRK_LAMBDA { unroll<4>([&](auto q) IRK_LAMBDA { vst1q_s32(sums + 16 * u + 4 * q, acc[u][q]); }); });
  }

  static void outputs(const QDwParams& p, const QDwBlock& b, const int64_t* offsets, const char* src, const uint8_t* w,
                      int64_t count, char* out, const int8_t* res) {
    output_columns<Ops>(p, b, offsets, src, w, count, out, res);
  }
};

struct DirectBlock {
  template <class Requant>
  static void block(const QDwDirect& p, const int8_t* x, int8_t* y, int64_t block, int64_t y0, int64_t y1) {
    if (p.stride == 1)
      direct_block<DirectDot1<Requant>>(p, x, y, block, y0, y1);
    else
      direct_block<DirectDot2<Requant>>(p, x, y, block, y0, y1);
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qdwconv_s8s8_neondot(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::QDwParams& p = *static_cast<const irk::QDwParams*>(params);
  if (p.direct)
    irk::direct_items<irk::DirectBlock>(*p.direct, bufs, begin, end);
  else if (p.tall)
    irk::tall_items(*p.tall, bufs, begin, end);
  else
    irk::qdw_run<irk::Ops>(bufs, params, begin, end);
}
