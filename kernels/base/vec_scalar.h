// One-lane "vector": the meaning of the vector operations that vmath.h and the pointwise families are written in.
// Every vec_<isa>.h offers the same static functions; each is one IEEE operation, so all give the same bits per lane
// (the sign and payload of a NaN excepted).
#pragma once
#include <stdint.h>
#include <string.h>

namespace irk {
namespace {

struct VecScalar {
  static constexpr int N = 1;
  using F = float;
  using I = int32_t;
  using M = bool;

  static F load(const float* p) { return *p; }
  static void store(float* p, F v) { *p = v; }
  // The first n < N lanes; the others are +0 on load and untouched on store.
  static F load_n(const float*, int64_t) { return 0.0f; }
  static void store_n(float*, F, int64_t) {}
  // a in the first n lanes, b in the others.
  static F first_n(int64_t n, F a, F b) { return n > 0 ? a : b; }
  // Lane i of the result is lane i + S, for i < S; S a power of two below N. (The other lanes hold anything.)
  template <int S>
  static F rotate(F a) {
    return a;
  }
  // d[j * dd + i] = s[i * ds + j] for i, j < 4.
  static void transpose4(const float* s, int64_t ds, float* d, int64_t dd) {
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t j = 0; j < 4; ++j) d[j * dd + i] = s[i * ds + j];
    }
  }
  static F set(float v) { return v; }
  static I seti(int32_t v) { return v; }

  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F div(F a, F b) { return a / b; }
  static F fma(F a, F b, F c) { return __builtin_fmaf(a, b, c); }
  static F sqrt(F a) { return __builtin_sqrtf(a); }  // one instruction: the build has -fno-math-errno
  // a < b ? a : b and a > b ? a : b: the second operand when they are equal or one is NaN.
  static F min(F a, F b) { return a < b ? a : b; }
  static F max(F a, F b) { return a > b ? a : b; }
  static F floor(F a) {
    F r = nearest(a);
    return sel(r > a, copysign(r - 1.0f, a), r);
  }
  static F ceil(F a) {
    F r = nearest(a);
    return sel(r < a, copysign(r + 1.0f, a), r);
  }

  static M lt(F a, F b) { return a < b; }
  static M le(F a, F b) { return a <= b; }
  static M nan(F a) { return a != a; }
  static F sel(M m, F a, F b) { return m ? a : b; }

  static I as_i(F a) {
    I r;
    memcpy(&r, &a, 4);
    return r;
  }
  static F as_f(I a) {
    F r;
    memcpy(&r, &a, 4);
    return r;
  }
  static F to_f(I a) { return static_cast<float>(a); }
  static I addi(I a, I b) { return static_cast<I>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }
  static I subi(I a, I b) { return static_cast<I>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b)); }
  static I andi(I a, I b) { return a & b; }
  static I ori(I a, I b) { return a | b; }
  static I xori(I a, I b) { return a ^ b; }
  template <int S>
  static I shl(I a) {
    return static_cast<I>(static_cast<uint32_t>(a) << S);
  }
  template <int S>
  static I sra(I a) {
    return a >> S;
  }
  // a * 2^n, rounded once; i and n are the same integer, |i| <= 150, 2^-25 <= |a| < 4 (or NaN). Two factors, because
  // 2^i itself can be out of range when the result is not; the first product is exact.
  static F scale(F a, I i, F) {
    I h = sra<1>(i);
    return mul(mul(a, as_f(shl<23>(addi(h, 127)))), as_f(shl<23>(addi(subi(i, h), 127))));
  }

 private:
  static F copysign(F a, F s) { return as_f((as_i(a) & 0x7fffffff) | (as_i(s) & INT32_MIN)); }
  // Nearest integer, ties to even; adding 2^23 leaves no room for a fraction. Larger numbers are integers already.
  static F nearest(F a) {
    F m = as_f(as_i(a) & 0x7fffffff);
    F r = (m + 8388608.0f) - 8388608.0f;
    return m < 8388608.0f ? copysign(r, a) : a;
  }
};

}  // namespace
}  // namespace irk
