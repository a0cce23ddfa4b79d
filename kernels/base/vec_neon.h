// Four lanes of AArch64 NEON; see vec_scalar.h for the meaning of each function.
#pragma once
#include <arm_neon.h>
#include <stdint.h>

namespace irk {
namespace {

struct VecNeon {
  static constexpr int N = 4;
  using F = float32x4_t;
  using I = int32x4_t;
  using M = uint32x4_t;

  static F load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, F v) { vst1q_f32(p, v); }
  static F load_n(const float* p, int64_t n) {
    if (n >= 4) return vld1q_f32(p);  // a whole vector counts as one, too (base/fold.h)
    F v = vdupq_n_f32(0.0f);
    if (n & 1) v = vld1q_lane_f32(p + (n & 2), v, 0);
    return n & 2 ? vcombine_f32(vld1_f32(p), vget_low_f32(v)) : v;
  }
  static void store_n(float* p, F v, int64_t n) {
    if (n >= 4) return vst1q_f32(p, v);
    float32x2_t last = vget_low_f32(v);
    if (n & 2) {
      vst1_f32(p, last);
      last = vget_high_f32(v);
    }
    if (n & 1) vst1_lane_f32(p + (n & 2), last, 0);
  }
  static F first_n(int64_t n, F a, F b) {
    const int32_t lane[4] = {0, 1, 2, 3};
    return vbslq_f32(vcltq_s32(vld1q_s32(lane), vdupq_n_s32(static_cast<int32_t>(n))), a, b);
  }
  template <int S>
  static F rotate(F a) {
    return S == 2 ? vextq_f32(a, a, 2) : vrev64q_f32(a);
  }
  static void transpose4(const float* s, int64_t ds, float* d, int64_t dd) {
    const float32x4x2_t ab = vtrnq_f32(vld1q_f32(s), vld1q_f32(s + ds));
    const float32x4x2_t ce = vtrnq_f32(vld1q_f32(s + 2 * ds), vld1q_f32(s + 3 * ds));
    vst1q_f32(d, vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(ce.val[0])));
    vst1q_f32(d + dd, vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(ce.val[1])));
    vst1q_f32(d + 2 * dd, vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(ce.val[0])));
    vst1q_f32(d + 3 * dd, vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(ce.val[1])));
  }
  static F set(float v) { return vdupq_n_f32(v); }
  static I seti(int32_t v) { return vdupq_n_s32(v); }

  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F sub(F a, F b) { return vsubq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F div(F a, F b) { return vdivq_f32(a, b); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F sqrt(F a) { return vsqrtq_f32(a); }
  // FMIN and FMAX treat NaN and signed zeros otherwise.
  static F min(F a, F b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  static F max(F a, F b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  // min(hi, max(lo, x)) for a hi other than -0, which FMIN alone would prefer to +0.
  static F clip(F x, F lo, F hi) { return vminq_f32(hi, max(lo, x)); }
  static F floor(F a) { return vrndmq_f32(a); }
  static F ceil(F a) { return vrndpq_f32(a); }

  static M lt(F a, F b) { return vcltq_f32(a, b); }
  static M le(F a, F b) { return vcleq_f32(a, b); }
  static M nan(F a) { return vmvnq_u32(vceqq_f32(a, a)); }
  static F sel(M m, F a, F b) { return vbslq_f32(m, a, b); }

  static I as_i(F a) { return vreinterpretq_s32_f32(a); }
  static F as_f(I a) { return vreinterpretq_f32_s32(a); }
  static F to_f(I a) { return vcvtq_f32_s32(a); }
  static I addi(I a, I b) { return vaddq_s32(a, b); }
  static I subi(I a, I b) { return vsubq_s32(a, b); }
  static I andi(I a, I b) { return vandq_s32(a, b); }
  static I ori(I a, I b) { return vorrq_s32(a, b); }
  static I xori(I a, I b) { return veorq_s32(a, b); }
  template <int S>
  static I shl(I a) {
    return vshlq_n_s32(a, S);
  }
  template <int S>
  static I sra(I a) {
    return vshrq_n_s32(a, S);
  }
  static F scale(F a, I i, F) {
    I h = sra<1>(i), bias = seti(127);
    return mul(mul(a, as_f(shl<23>(addi(h, bias)))), as_f(shl<23>(addi(subi(i, h), bias))));
  }
};

}  // namespace
}  // namespace irk
