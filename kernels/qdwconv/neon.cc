// NEON without dot products: one row per group, widened to int16 once, widening multiply-accumulate.
#include "qdwconv/direct_wide.h"
#include "qdwconv/neon_common.h"
#include "qdwconv/tall_wide.h"

namespace irk {
namespace {

struct Ops {
  static constexpr int kDepth = 1, kVectors = 1, kVectorBytes = 32;

  static void interleave(const QDwParams& p, const QDwBlock& b, const int8_t* const* rows, int64_t col, int64_t count,
                         char* dst) {
    const int8x16_t zx = vdupq_n_s8(static_cast<int8_t>(p.zx));
    int16_t* d = reinterpret_cast<int16_t*>(dst);
    for (int64_t i = 0; i < count; i++, col += p.sw, d += 16) {
      const int8x16_t v = rows[0] && col >= 0 && col < p.iw ? load_channels(rows[0] + col * p.c, b.n) : zx;
      vst1q_s16(d, vmovl_s8(vget_low_s8(v)));
      vst1q_s16(d + 8, vmovl_high_s8(v));
    }
  }

  static constexpr int U = 4;
  static void sum_taps(const QDwParams& p, const QDwBlock& b, const int64_t* offsets, const char* src,
                       const uint8_t* weights, int32_t* sums) {
    const int16_t* w = reinterpret_cast<const int16_t*>(weights);
    int32x4_t acc[U][4];
    unroll<4>([&](auto q) IRK_LAMBDA {
      acc[0][q] = vld1q_s32(p.bias + b.lanes + 4 * q);
      unroll<U - 1>([&](auto u) IRK_LAMBDA { acc[u + 1][q] = acc[0][q]; });
    });
    for (int64_t k = 0; k < p.taps; k++, w += 16) {
      const int16_t* t = reinterpret_cast<const int16_t*>(src + offsets[k]);
      const int16x8_t w0 = vld1q_s16(w), w1 = vld1q_s16(w + 8);
      unroll<U>([&](auto u) IRK_LAMBDA {
        const int16x8_t x0 = vld1q_s16(t + 16 * u), x1 = vld1q_s16(t + 16 * u + 8);
        acc[u][0] = vmlal_s16(acc[u][0], vget_low_s16(x0), vget_low_s16(w0));
        acc[u][1] = vmlal_high_s16(acc[u][1], x0, w0);
        acc[u][2] = vmlal_s16(acc[u][2], vget_low_s16(x1), vget_low_s16(w1));
        acc[u][3] = vmlal_high_s16(acc[u][3], x1, w1);
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
  template <class Requant, bool Three>
  static void block(const QDwDirect& p, const int8_t* x, int8_t* y, int64_t block, int64_t y0, int64_t y1) {
    if (p.stride == 1)
      direct_block<DirectWide1<Requant, Three>>(p, x, y, block, y0, y1);
    else
      direct_block<DirectWide2<Requant, Three>>(p, x, y, block, y0, y1);
  }
  template <class Requant>
  static void block(const QDwDirect& p, const int8_t* x, int8_t* y, int64_t block, int64_t y0, int64_t y1) {
    if (p.kinds[block] & kQDwThree)
      DirectBlock::block<RequantSmallNeon, true>(p, x, y, block, y0, y1);
    else
      DirectBlock::block<Requant, false>(p, x, y, block, y0, y1);
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qdwconv_s8s8_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::QDwParams& p = *static_cast<const irk::QDwParams*>(params);
  if (p.direct)
    irk::direct_items<irk::DirectBlock>(*p.direct, bufs, begin, end);
  else if (p.tall)
    irk::wide_items(*p.tall, bufs, begin, end);
  else
    irk::qdw_run<irk::Ops>(bufs, params, begin, end);
}
