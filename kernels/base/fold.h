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

// f(0) .. f(N - 1), unrolled where that keeps vectors in registers (not for 64 scalar lanes).
template <int N, class Fn>
IRK_INLINE void each(Fn fn) {
  if constexpr (N <= 16) {
    unroll<N>(fn);
  } else {
    for (int i = 0; i < N; ++i) fn(i);
  }
}

template <class V, class Op>
struct Lanes {
  typedef typename V::F F;
  static constexpr int R = kLanes / V::N;
  F acc[R];

  IRK_INLINE void clear() {
    each<R>([&](auto r) IRK_LAMBDA { acc[r] = V::set(Op::identity); });
  }

  // Takes fn(p[0..n)), element i in lane i % 64. fn gets the vector's offset and how many lanes count, -1 for all.
  template <class Fn>
  IRK_INLINE void take(int64_t n, Fn fn) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      each<R>([&](auto r) IRK_LAMBDA { acc[r] = Op::template join<V>(acc[r], fn(i + r * V::N, int64_t{-1})); });
    }
    if (i == n) return;
    if constexpr (V::N > 1 && R > 8) {  // unrolled so far, the end would be most of the code
      F some[R];
      each<R>([&](auto r) IRK_LAMBDA { some[r] = acc[r]; });
      for (int r = 0; i < n; ++r, i += V::N) {
        const int64_t part = n - i < V::N ? n - i : V::N;
        some[r] = V::first_n(part, Op::template join<V>(some[r], fn(i, part)), some[r]);
      }
      each<R>([&](auto r) IRK_LAMBDA { acc[r] = some[r]; });
      return;
    }
    each<R>([&](auto r) IRK_LAMBDA {
      const int64_t left = n - i - r * V::N;
      if (left <= 0) return;
      if constexpr (V::N == 1) {
        acc[r] = Op::template join<V>(acc[r], fn(i + r, int64_t{-1}));
      } else {
        const int64_t part = left < V::N ? left : V::N;
        acc[r] = V::first_n(part, Op::template join<V>(acc[r], fn(i + r * V::N, part)), acc[r]);
      }
    });
  }

  IRK_INLINE void join(const Lanes& other) {
    each<R>([&](auto r) IRK_LAMBDA { acc[r] = Op::template join<V>(acc[r], other.acc[r]); });
  }

  // All lanes into one number: halves onto halves.
  IRK_INLINE float total() const {
    float t[V::N];
    V::store(t, fold<V::N / 2>(tree<0, 1>()));
    return t[0];
  }

  // Vectors First, First + Step, First + 2 Step ... as if the array's upper half were joined onto the lower,
  // repeatedly.
  template <int First, int Step>
  IRK_INLINE F tree() const {
    if constexpr (Step >= R) {
      return acc[First];
    } else {
      return Op::template join<V>(tree<First, 2 * Step>(), tree<First + Step, 2 * Step>());
    }
  }

  template <int W>
  static IRK_INLINE F fold(F a) {
    if constexpr (W == 0) {
      return a;
    } else {
      return fold<W / 2>(Op::template join<V>(a, V::template rotate<W>(a)));
    }
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
