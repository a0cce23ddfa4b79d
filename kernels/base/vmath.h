// Elementary functions for every ISA: each is one fixed sequence of single IEEE 754 operations of vec_<isa>.h (no FMA,
// no libm, no tables), so scalar, AVX2, AVX-512 and NEON give the same bits. irkit/backend/numba_vmath.py is the same
// sequence for the host compiler; tests/kernels/test_numba.py holds the two together.
//
// Errors over the whole range are at most 2.5 ulp (tests/kernels/test_eltwise.py measures them), for denormal arguments
// and results too; infinities, NaN and signed zeros follow C99 annex F. Composed functions (gelu, mish, ...) state
// their own.
//
// Sources:
//   range reduction of exp: W. J. Cody, W. Waite, Software Manual for the Elementary Functions, 1980, ch. 6;
//   exp, log, tanh polynomials: S. L. Moshier, Cephes mathematical library, single precision (expf, logf, tanhf);
//   log1p: W. Kahan's correction, HP-15C Advanced Functions Handbook, 1982;
//   erf: erf(x) = x + x P(x^2) below 0.9, 1 - exp(-Q(|x|)) above, P and Q minimax fits made for irkit
//   (relative error of the exact polynomials 3e-10 and 2e-9).
#pragma once
#include <stdint.h>
#include <string.h>

#include "base/unroll.h"

namespace irk {
namespace {
namespace vmath {

// Everything here is inlined: a function left out of line would load its constants again for every vector.

// c0 + x c1 + x^2 c2 ... by Horner's rule, each step one rounded product and one rounded sum.
template <class V>
IRK_INLINE typename V::F poly(typename V::F, float c0) {
  return V::set(c0);
}
template <class V, class... Rest>
IRK_INLINE typename V::F poly(typename V::F x, float c0, float c1, Rest... rest) {
  return V::add(V::mul(poly<V>(x, c1, rest...), x), V::set(c0));
}

template <class V>
IRK_INLINE typename V::F abs(typename V::F x) {
  return V::as_f(V::andi(V::as_i(x), V::seti(0x7fffffff)));
}
template <class V>
IRK_INLINE typename V::F neg(typename V::F x) {
  return V::as_f(V::xori(V::as_i(x), V::seti(INT32_MIN)));
}
// |x| with the sign of s.
template <class V>
IRK_INLINE typename V::F copysign(typename V::F x, typename V::F s) {
  return V::as_f(V::ori(V::andi(V::as_i(x), V::seti(0x7fffffff)), V::andi(V::as_i(s), V::seti(INT32_MIN))));
}

// max(x, 0), NaN stays NaN.
template <class V>
IRK_INLINE typename V::F relu(typename V::F x) {
  return V::max(V::set(0.0f), x);
}
// The larger one, NaN if either is.
template <class V>
IRK_INLINE typename V::F maximum(typename V::F a, typename V::F b) {
  return V::sel(V::nan(a), a, V::max(a, b));
}
template <class V>
IRK_INLINE typename V::F minimum(typename V::F a, typename V::F b) {
  return V::sel(V::nan(a), a, V::min(a, b));
}
// min(hi, max(lo, x)), NaN stays NaN.
template <class V>
IRK_INLINE typename V::F clip(typename V::F x, typename V::F lo, typename V::F hi) {
  return V::min(hi, V::max(lo, x));
}

// x = n ln 2 + r with |r| <= ln 2 / 2; p is exp(r) - 1, i and n are the same integer.
template <class V>
struct ExpParts {
  typename V::F p, n;
  typename V::I i;
};
template <class V>
IRK_INLINE ExpParts<V> exp_parts(typename V::F x) {
  // The sum leaves no bits for a fraction: t holds the nearest integer in its low bits.
  const typename V::F magic = V::set(12582912.0f);
  typename V::F t = V::add(V::mul(x, V::set(1.44269504088896341f)), magic);
  typename V::F n = V::sub(t, magic);
  typename V::I i = V::subi(V::as_i(t), V::as_i(magic));
  typename V::F r = V::sub(V::sub(x, V::mul(n, V::set(0.693359375f))), V::mul(n, V::set(-2.12194440e-4f)));
  typename V::F p = poly<V>(r, 5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f, 8.3334519073e-3f, 1.3981999507e-3f,
                            1.9875691500e-4f);
  return {V::add(V::mul(p, V::mul(r, r)), r), n, i};
}

template <class V>
IRK_INLINE typename V::F exp(typename V::F x) {
  // Beyond the limits the result is +inf or +0 whatever x is.
  ExpParts<V> e = exp_parts<V>(clip<V>(x, V::set(-104.0f), V::set(89.0f)));
  return V::scale(V::add(e.p, V::set(1.0f)), e.i, e.n);
}

// exp(x) - 1 for x <= 0 (elu); larger x count as 0.
template <class V>
IRK_INLINE typename V::F expm1_neg(typename V::F x) {
  ExpParts<V> e = exp_parts<V>(clip<V>(x, V::set(-18.0f), V::set(0.0f)));
  typename V::F s = V::scale(V::set(1.0f), e.i, e.n);
  typename V::F r = V::add(V::mul(e.p, s), V::sub(s, V::set(1.0f)));
  return V::sel(V::lt(x, V::set(0.0f)), r, x);  // keeps -0
}

template <class V>
IRK_INLINE typename V::F log(typename V::F x) {
  typedef typename V::F F;
  const F zero = V::set(0.0f), inf = V::as_f(V::seti(0x7f800000));
  typename V::M tiny = V::lt(x, V::set(1.17549435e-38f));
  F y = V::sel(tiny, V::mul(x, V::set(8388608.0f)), x);
  // y = 2^e (1 + m), sqrt(1/2) <= 1 + m < sqrt(2): take the exponent of y / sqrt(1/2).
  typename V::I bits = V::subi(V::as_i(y), V::seti(0x3f3504f3));
  F e = V::to_f(V::template sra<23>(bits));
  e = V::sub(e, V::sel(tiny, V::set(23.0f), zero));
  F m = V::as_f(V::addi(V::andi(bits, V::seti(0x007fffff)), V::seti(0x3f3504f3)));
  m = V::sub(m, V::set(1.0f));
  F z = V::mul(m, m);
  F p = poly<V>(m, 3.3333331174e-1f, -2.4999993993e-1f, 2.0000714765e-1f, -1.6668057665e-1f, 1.4249322787e-1f,
                -1.2420140846e-1f, 1.1676998740e-1f, -1.1514610310e-1f, 7.0376836292e-2f);
  p = V::mul(V::mul(p, m), z);
  p = V::add(p, V::mul(e, V::set(-2.12194440e-4f)));
  p = V::sub(p, V::mul(z, V::set(0.5f)));
  F r = V::add(V::add(m, p), V::mul(e, V::set(0.693359375f)));
  r = V::sel(V::lt(x, inf), r, x);  // +inf and NaN
  r = V::sel(V::le(x, zero), V::sel(V::lt(x, zero), V::as_f(V::seti(0x7fc00000)), neg<V>(inf)), r);
  return r;
}

// log(1 + u) for 0 <= u <= 1: the rounding error of 1 + u is put back.
template <class V>
IRK_INLINE typename V::F log1p_unit(typename V::F u) {
  typename V::F w = V::add(V::set(1.0f), u);
  typename V::F lost = V::sub(u, V::sub(w, V::set(1.0f)));
  return V::add(log<V>(w), V::div(lost, w));
}

template <class V>
IRK_INLINE typename V::F tanh(typename V::F x) {
  typedef typename V::F F;
  F a = abs<V>(x), z = V::mul(x, x);
  F small =
      poly<V>(z, -3.33332819422e-1f, 1.33314422036e-1f, -5.37397155531e-2f, 2.06390887954e-2f, -5.70498872745e-3f);
  small = V::add(V::mul(V::mul(small, z), x), x);
  F e = exp<V>(V::add(a, a));
  F big = V::sub(V::set(1.0f), V::div(V::set(2.0f), V::add(e, V::set(1.0f))));
  return V::sel(V::lt(a, V::set(0.625f)), small, copysign<V>(big, x));
}

// exp(-|x|) never overflows, and both branches keep full relative precision.
template <class V>
IRK_INLINE typename V::F sigmoid(typename V::F x) {
  typename V::F e = exp<V>(V::as_f(V::ori(V::as_i(x), V::seti(INT32_MIN))));
  typename V::F d = V::add(e, V::set(1.0f));
  return V::div(V::sel(V::lt(x, V::set(0.0f)), e, V::set(1.0f)), d);
}

template <class V>
IRK_INLINE typename V::F erf(typename V::F x) {
  typedef typename V::F F;
  F a = abs<V>(x), z = V::mul(x, x);
  F small = poly<V>(z, 1.2837917e-01f, -3.7612635e-01f, 1.1283715e-01f, -2.6860509e-02f, 5.2038589e-03f,
                    -8.1756391e-04f, 8.5131032e-05f);
  small = V::add(V::mul(small, x), x);
  F c = V::min(V::set(4.0f), a);  // erf(4) rounds to 1
  F q = poly<V>(c, 1.6648255e-04f, 1.1277971e+00f, 6.3697636e-01f, 1.0411343e-01f, -2.2315085e-02f, 3.0654566e-03f,
                -1.9821606e-04f);
  F big = V::sub(V::set(1.0f), exp<V>(neg<V>(q)));
  return V::sel(V::lt(a, V::set(0.9f)), small, copysign<V>(big, x));
}

// -1, 0 or 1; 0 for NaN.
template <class V>
IRK_INLINE typename V::F sign(typename V::F x) {
  typename V::F zero = V::set(0.0f);
  return V::sel(V::lt(zero, x), V::set(1.0f), V::sel(V::lt(x, zero), V::set(-1.0f), zero));
}

// max(x, 0) + log(1 + exp(-|x|)).
template <class V>
IRK_INLINE typename V::F softplus(typename V::F x) {
  typename V::F e = exp<V>(V::as_f(V::ori(V::as_i(x), V::seti(INT32_MIN))));
  return V::add(relu<V>(x), log1p_unit<V>(e));
}

template <class V>
IRK_INLINE typename V::F silu(typename V::F x) {
  return V::mul(x, sigmoid<V>(x));
}

// x tanh(softplus(x)) = x n / (n + 2), n = e^x (e^x + 2): no cancellation for negative x. Past 20 the quotient is 1.
template <class V>
IRK_INLINE typename V::F mish(typename V::F x) {
  typename V::F e = exp<V>(V::min(V::set(20.0f), x)), two = V::set(2.0f);
  typename V::F n = V::mul(e, V::add(e, two));
  return V::mul(x, V::div(n, V::add(n, two)));
}

// x Phi(x). Absolute error is a few ulp of x: 1 + erf cancels for negative x, as it does in the frameworks.
template <class V>
IRK_INLINE typename V::F gelu(typename V::F x) {
  typename V::F t = V::add(V::set(1.0f), erf<V>(V::mul(x, V::set(0.70710678118654752f))));
  return V::mul(V::mul(V::set(0.5f), x), t);
}
template <class V>
IRK_INLINE typename V::F gelu_tanh(typename V::F x) {
  typename V::F cube = V::mul(V::mul(x, x), x);
  typename V::F in = V::mul(V::set(0.79788456080286536f), V::add(x, V::mul(V::set(0.044715f), cube)));
  return V::mul(V::mul(V::set(0.5f), x), V::add(V::set(1.0f), tanh<V>(in)));
}

// f32(1/6) times 6 rounds to 1, so both reach their ends exactly and neither overflows.
template <class V>
IRK_INLINE typename V::F hardsigmoid(typename V::F x) {
  typename V::F t = V::add(V::mul(x, V::set(1.0f / 6.0f)), V::set(0.5f));
  return clip<V>(t, V::set(0.0f), V::set(1.0f));
}
template <class V>
IRK_INLINE typename V::F hardswish(typename V::F x) {
  typename V::F t = clip<V>(V::add(x, V::set(3.0f)), V::set(0.0f), V::set(6.0f));
  return V::mul(x, V::mul(t, V::set(1.0f / 6.0f)));
}

template <class V>
IRK_INLINE typename V::F elu(typename V::F x, typename V::F alpha) {
  return V::sel(V::lt(V::set(0.0f), x), x, V::mul(alpha, expm1_neg<V>(x)));
}
template <class V>
IRK_INLINE typename V::F leaky(typename V::F x, typename V::F slope) {
  return V::sel(V::lt(V::set(0.0f), x), x, V::mul(slope, x));
}

// ---- pow: one lane at a time in f64, whose 53 bits leave room for one final rounding (error <= 0.5001 ulp) ----------

inline double bits_to_f64(int64_t b) {
  double r;
  memcpy(&r, &b, 8);
  return r;
}

// log2(a) for a > 0 finite, relative error < 1e-15: atanh series of (m - 1) / (m + 1), sqrt(1/2) <= m < sqrt(2).
inline double log2_f64(double a) {
  int64_t b;
  memcpy(&b, &a, 8);
  int64_t e = (b - 0x3fe6a09e667f3bcdLL) >> 52;
  double m = bits_to_f64(b - (e << 52));
  double s = (m - 1.0) / (m + 1.0), z = s * s;
  double p = 1.0 / 19.0;
  for (int k = 17; k >= 1; k -= 2) p = p * z + 1.0 / k;
  return static_cast<double>(e) + (2.0 * s * p) * 1.4426950408889634;
}

// 2^t for |t| <= 1000: Taylor series on |r| <= ln 2 / 2.
inline double exp2_f64(double t) {
  double n = (t + 6755399441055744.0) - 6755399441055744.0;
  double r = (t - n) * 0.6931471805599453;
  double p = 1.0;
  for (int k = 12; k >= 1; --k) p = 1.0 + p * r / k;
  return p * bits_to_f64((static_cast<int64_t>(n) + 1023) << 52);
}

// x^y with the special cases of C99 annex F.9.4.4.
inline float pow1(float x, float y) {
  if (y == 0.0f || x == 1.0f) return 1.0f;
  if (x != x || y != y) return x + y;
  double a = x < 0 ? -static_cast<double>(x) : static_cast<double>(x), yd = y;
  double ay = yd < 0 ? -yd : yd;
  bool odd = ay < 16777216.0 && (static_cast<int64_t>(ay) & 1) && static_cast<double>(static_cast<int64_t>(ay)) == ay;
  bool whole = ay >= 8388608.0 || static_cast<double>(static_cast<int64_t>(ay)) == ay;
  int32_t xb;
  memcpy(&xb, &x, 4);
  double r;
  if (a == 0.0 || a > 3.5e38) {
    r = (a == 0.0) == (y < 0) ? bits_to_f64(0x7ff0000000000000LL) : 0.0;
  } else if (x < 0 && !whole) {
    r = bits_to_f64(0x7ff8000000000000LL);
  } else if (a == 1.0) {
    r = 1.0;
  } else {
    double t = yd * log2_f64(a);
    t = t < -1000.0 ? -1000.0 : (t > 1000.0 ? 1000.0 : t);
    r = exp2_f64(t);
  }
  return static_cast<float>(xb < 0 && odd ? -r : r);
}

}  // namespace vmath
}  // namespace
}  // namespace irk
