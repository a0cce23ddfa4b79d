// Reductions of contiguous floats in one order on every ISA: element i goes to lane i % 64, each lane adds up in rising
// order, and a fixed tree joins the lanes. Sixty-four lanes are four accumulators of AVX-512 and eight of AVX2, enough
// to hide the latency of an addition. Rounding error of a sum of n numbers: at most (n / 64 + 6) * 2^-24 * sum |x|.
#pragma once
#include <stdint.h>

#include "base/loops.h"

namespace irk {
namespace {

constexpr int kLanes = 64;

struct SumOp {
  static constexpr float identity = 0.0f;
  template <class V>
  static IRK_INLINE typename V::F join(typename V::F acc, typename V::F x) {
    return V::add(acc, x);
  }
};
// The extremes keep NaN when they meet one.
struct MaxOp {
  static constexpr float identity = -__builtin_inff();
  template <class V>
  static IRK_INLINE typename V::F join(typename V::F acc, typename V::F x) {
    return vmath::maximum<V>(acc, x);
  }
};
struct MinOp {
  static constexpr float identity = __builtin_inff();
  template <class V>
  static IRK_INLINE typename V::F join(typename V::F acc, typename V::F x) {
    return vmath::minimum<V>(acc, x);
  }
};

template <class V, class Op>
struct Lanes {
  typedef typename V::F F;
  static constexpr int R = kLanes / V::N;
  F acc[R];

  IRK_INLINE void clear() {
    for (int r = 0; r < R; ++r) acc[r] = V::set(Op::identity);
  }

  // Takes fn(p[0..n)), element i in lane i % 64. fn gets the vector and its offset, `part` lanes of it when not -1;
  // lanes past the end are not joined.
  template <class Fn>
  IRK_INLINE void take(int64_t n, Fn fn) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      for (int r = 0; r < R; ++r) acc[r] = Op::template join<V>(acc[r], fn(i + r * V::N, int64_t{-1}));
    }
    for (int r = 0; r < R && i < n; ++r, i += V::N) {
      if (i + V::N <= n) {
        acc[r] = Op::template join<V>(acc[r], fn(i, int64_t{-1}));
      } else {
        float old[V::N], now[V::N];
        V::store(old, acc[r]);
        V::store(now, Op::template join<V>(acc[r], fn(i, n - i)));
        for (int64_t k = 0; k < n - i; ++k) old[k] = now[k];
        acc[r] = V::load(old);
      }
    }
  }

  IRK_INLINE void join(const Lanes& other) {
    for (int r = 0; r < R; ++r) acc[r] = Op::template join<V>(acc[r], other.acc[r]);
  }

  // All lanes into one number: halves onto halves.
  IRK_INLINE float total() const {
    F a[R];
    for (int r = 0; r < R; ++r) a[r] = acc[r];
    for (int w = R / 2; w >= 1; w /= 2) {
      for (int r = 0; r < w; ++r) a[r] = Op::template join<V>(a[r], a[r + w]);
    }
    float t[V::N];
    V::store(t, a[0]);
    for (int w = V::N / 2; w >= 1; w /= 2) {
      for (int k = 0; k < w; ++k) t[k] = one(t[k], t[k + w]);
    }
    return t[0];
  }

  // Op on two numbers, by the same vector operation.
  static IRK_INLINE float one(float x, float y) {
    float t[V::N];
    V::store(t, Op::template join<V>(V::set(x), V::set(y)));
    return t[0];
  }
};

}  // namespace
}  // namespace irk
