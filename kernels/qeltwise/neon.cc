// NEON: sixteen elements at a time. Multipliers along the last axis are left to the code that all ISAs share.
#include "base/unroll.h"
#include "qeltwise/generic.h"

namespace {

struct Sixteen {
  float32x4_t v[4];
};

// y[i] = fn(x[i]) for n elements; fn(from, to) makes sixteen.
template <class From, class To, class Fn>
IRK_INLINE void sixteens(const From* x, To* y, int64_t n, Fn fn) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) fn(x + i, y + i);
  if (i == n) return;
  const size_t rest = static_cast<size_t>(n - i);
  From rx[16] = {};
  To ry[16];
  memcpy(rx, x + i, rest * sizeof(From));
  fn(rx, ry);
  memcpy(y + i, ry, rest * sizeof(To));
}

IRK_INLINE Sixteen minus_zero(const int8_t* x, int8x8_t zero) {
  const int8x16_t q = vld1q_s8(x);
  const int16x8_t a = vsubl_s8(vget_low_s8(q), zero), b = vsubl_s8(vget_high_s8(q), zero);
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))), vcvtq_f32_s32(vmovl_high_s16(a)),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))), vcvtq_f32_s32(vmovl_high_s16(b))}};
}

IRK_INLINE Sixteen times(Sixteen x, float m) {
  irk::unroll<4>([&](auto q) IRK_LAMBDA { x.v[q] = vmulq_n_f32(x.v[q], m); });
  return x;
}

IRK_INLINE int8x8_t zero_of(int32_t z) { return vdup_n_s8(static_cast<int8_t>(z)); }

// As Rounder: clamped, rounded, moved; NaN becomes the lower bound.
struct Bytes {
  float32x4_t lo, hi;
  int8x16_t zy;
  explicit IRK_INLINE Bytes(const QeltwiseParams& p)
      : lo(vdupq_n_f32(static_cast<float>(p.lo - p.zy))),
        hi(vdupq_n_f32(static_cast<float>(p.hi - p.zy))),
        zy(vdupq_n_s8(static_cast<int8_t>(p.zy))) {}
  IRK_INLINE void store(int8_t* y, Sixteen x) const {
    int16x8_t q[4];
    irk::unroll<4>([&](auto i) IRK_LAMBDA {
      q[i] = vreinterpretq_s16_s32(vcvtnq_s32_f32(vminnmq_f32(vmaxnmq_f32(x.v[i], lo), hi)));
    });
    const int8x16_t low = vreinterpretq_s8_s16(vuzp1q_s16(q[0], q[1]));
    vst1q_s8(y, vaddq_s8(vuzp1q_s8(low, vreinterpretq_s8_s16(vuzp1q_s16(q[2], q[3]))), zy));
  }
};

void dequantize(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QeltwiseParams& p = *static_cast<const QeltwiseParams*>(params);
  if (p.per_lane) return run_dequantize<Lanes>(bufs, params, begin, end);
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  float* y = static_cast<float*>(bufs[p.n_in]);
  each_block(p, begin, end, [&](int64_t row, int64_t, int64_t, int64_t o, int64_t, int64_t n) {
    const float m = p.m ? p.m[row % p.channels] : p.ma;
    const int8x8_t z = zero_of(p.m ? p.z[row % p.channels] : p.za);
    sixteens(x + o, y + o, n, [&](const int8_t* from, float* to) IRK_LAMBDA {
      const Sixteen v = times(minus_zero(from, z), m);
      irk::unroll<4>([&](auto i) IRK_LAMBDA { vst1q_f32(to + 4 * i, v.v[i]); });
    });
  });
}

void requantize(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QeltwiseParams& p = *static_cast<const QeltwiseParams*>(params);
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  int8_t* y = static_cast<int8_t*>(bufs[1]);
  const int8x8_t z = zero_of(p.za);
  const float m = p.ma;
  const Bytes bytes(p);
  each_block(p, begin, end, [&](int64_t, int64_t, int64_t, int64_t o, int64_t, int64_t n) {
    sixteens(x + o, y + o, n,
             [&](const int8_t* from, int8_t* to) IRK_LAMBDA { bytes.store(to, times(minus_zero(from, z), m)); });
  });
}

template <class Op>
void binary(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QeltwiseParams& p = *static_cast<const QeltwiseParams*>(params);
  const int8_t *a = static_cast<const int8_t*>(bufs[0]), *b = static_cast<const int8_t*>(bufs[1]);
  int8_t* y = static_cast<int8_t*>(bufs[2]);
  const Op op(p);
  const Bytes bytes(p);
  each_block(p, begin, end, [&](int64_t, int64_t oa, int64_t ob, int64_t oy, int64_t, int64_t n) {
    int8_t ta[irk::kQeltwiseBlock], tb[irk::kQeltwiseBlock];
    const int8_t *xa = contiguous(a + oa, p.step_a, n, ta), *xb = contiguous(b + ob, p.step_b, n, tb);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) bytes.store(y + oy + i, op(xa + i, xb + i));
    if (i == n) return;
    const size_t rest = static_cast<size_t>(n - i);
    int8_t ra[16] = {}, rb[16] = {}, ry[16];
    memcpy(ra, xa + i, rest);
    memcpy(rb, xb + i, rest);
    bytes.store(ry, op(ra, rb));
    memcpy(y + oy + i, ry, rest);
  });
}

struct Add {
  int8x8_t za, zb;
  float ma, mb;
  explicit IRK_INLINE Add(const QeltwiseParams& p) : za(zero_of(p.za)), zb(zero_of(p.zb)), ma(p.ma), mb(p.mb) {}
  IRK_INLINE Sixteen operator()(const int8_t* a, const int8_t* b) const {
    Sixteen x = times(minus_zero(a, za), ma);
    const Sixteen y = times(minus_zero(b, zb), mb);
    irk::unroll<4>([&](auto q) IRK_LAMBDA { x.v[q] = vaddq_f32(x.v[q], y.v[q]); });
    return x;
  }
};

struct Multiply {
  int8x8_t za, zb;
  float m;
  explicit IRK_INLINE Multiply(const QeltwiseParams& p) : za(zero_of(p.za)), zb(zero_of(p.zb)), m(p.ma) {}
  IRK_INLINE Sixteen operator()(const int8_t* a, const int8_t* b) const {
    const int8x16_t qa = vld1q_s8(a), qb = vld1q_s8(b);
    const int16x8_t a0 = vsubl_s8(vget_low_s8(qa), za), a1 = vsubl_s8(vget_high_s8(qa), za);
    const int16x8_t b0 = vsubl_s8(vget_low_s8(qb), zb), b1 = vsubl_s8(vget_high_s8(qb), zb);
    return times(
        {{vcvtq_f32_s32(vmull_s16(vget_low_s16(a0), vget_low_s16(b0))), vcvtq_f32_s32(vmull_high_s16(a0, b0)),
          vcvtq_f32_s32(vmull_s16(vget_low_s16(a1), vget_low_s16(b1))), vcvtq_f32_s32(vmull_high_s16(a1, b1))}},
        m);
  }
};

}  // namespace

IRK_QELTWISE(quantize, neon, run_quantize<Lanes>)
IRK_QELTWISE(dequantize, neon, dequantize)
IRK_QELTWISE(requantize, neon, requantize)
IRK_QELTWISE(add, neon, binary<Add>)
IRK_QELTWISE(mul, neon, binary<Multiply>)
