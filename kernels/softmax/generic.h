// Softmax and log-softmax; V is one of base/vec_<isa>.h. Rows in memory are summed by base/fold.h, strided ones in
// rising order, so that the bits depend on the shape only.
#pragma once
#include "base/fold.h"
#include "softmax/softmax.h"

namespace irk {
namespace {
namespace softmax_impl {

using softmax::kBlock;
using softmax::Params;

struct KeepMax {  // NaN may get lost here: it comes back in the sum of exponentials
  static constexpr float identity = -__builtin_inff();
  template <class V>
  static IRK_INLINE typename V::F join(typename V::F acc, typename V::F x) {
    return V::max(x, acc);
  }
};

// exp(d) for d <= 0; 0 when it is too small for its share of a sum of thousands to be a normal number: the shares of
// masked positions would be denormal, and slow in all that uses them.
template <class V>
IRK_INLINE typename V::F weight(typename V::F d) {
  const typename V::F least = V::set(softmax::kLeast);
  return V::sel(V::lt(d, least), V::set(0.0f), vmath::exp<V>(V::max(least, d)));
}

template <class V>
IRK_INLINE float log1(float x) {
  float t[V::N];
  V::store(t, vmath::log<V>(V::set(x)));
  return t[0];
}

// A row of at most one vector: what row() does, without going through memory.
template <class V>
IRK_INLINE void short_row(const float* x, float* y, int64_t n) {
  typedef typename V::F F;
  const F low = V::set(KeepMax::identity), v = V::load_n(x, n);
  float t[V::N];
  V::store(t, Lanes<V, KeepMax>::template fold<V::N / 2>(V::first_n(n, KeepMax::join<V>(low, v), low)));
  const F e = V::first_n(n, weight<V>(V::sub(v, V::set(t[0]))), V::set(0.0f));
  V::store(t, Lanes<V, SumOp>::template fold<V::N / 2>(e));
  V::store_n(y, V::div(e, V::set(t[0])), n);
}

template <class V>
void row(const float* x, float* y, int64_t n, bool log) {
  typedef typename V::F F;
  if (V::N > 1 && n <= V::N && !log) return short_row<V>(x, y, n);
  Lanes<V, KeepMax> top;
  top.clear();
  top.take(n, [x](int64_t i, int64_t part) __attribute__((always_inline)) { return load_some<V>(x + i, part); });
  const F m = V::set(top.total());
  Lanes<V, SumOp> sum;
  sum.clear();
  if (log) {
    sum.take(n, [x, m](int64_t i, int64_t part)
                    __attribute__((always_inline)) { return weight<V>(V::sub(load_some<V>(x + i, part), m)); });
    const F l = V::set(log1<V>(sum.total()));
    map<V>(x, y, n, [m, l](F v) __attribute__((always_inline)) { return V::sub(V::sub(v, m), l); });
  } else {
    sum.take(n, [x, y, m](int64_t i, int64_t part) __attribute__((always_inline)) {
      F e = weight<V>(V::sub(load_some<V>(x + i, part), m));
      store_some<V>(y + i, e, part);
      return e;
    });
    const F s = V::set(sum.total());
    map<V>(y, y, n, [s](F v) __attribute__((always_inline)) { return V::div(v, s); });
  }
}

// width <= kBlock neighbouring positions, n elements each, `inner` floats apart.
template <class V>
void columns(const float* x, float* y, int64_t n, int64_t inner, int64_t width, bool log, float* scratch) {
  typedef typename V::F F;
  float *top = scratch, *sum = scratch + kBlock;
  for (int64_t c = 0; c < (width + 15) / 16 * 16; ++c) {
    top[c] = KeepMax::identity;
    sum[c] = 0.0f;
  }
  for (int64_t j = 0; j < n; ++j) {
    const float* xj = x + j * inner;
    for (int64_t c = 0; c < width; c += V::N) {
      const int64_t part = c + V::N <= width ? -1 : width - c;
      V::store(top + c, V::max(load_some<V>(xj + c, part), V::load(top + c)));
    }
  }
  for (int64_t j = 0; j < n; ++j) {
    const float* xj = x + j * inner;
    float* yj = y + j * inner;
    for (int64_t c = 0; c < width; c += V::N) {
      const int64_t part = c + V::N <= width ? -1 : width - c;
      F e = weight<V>(V::sub(load_some<V>(xj + c, part), V::load(top + c)));
      if (!log) store_some<V>(yj + c, e, part);
      V::store(sum + c, V::add(V::load(sum + c), e));
    }
  }
  if (log) {
    for (int64_t c = 0; c < width; c += V::N) V::store(sum + c, vmath::log<V>(V::load(sum + c)));
  }
  for (int64_t j = 0; j < n; ++j) {
    const float* xj = x + j * inner;
    float* yj = y + j * inner;
    for (int64_t c = 0; c < width; c += V::N) {
      const int64_t part = c + V::N <= width ? -1 : width - c;
      const F s = V::load(sum + c);
      const F v =
          log ? V::sub(V::sub(load_some<V>(xj + c, part), V::load(top + c)), s) : V::div(load_some<V>(yj + c, part), s);
      store_some<V>(yj + c, v, part);
    }
  }
}

template <class V>
void run(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const Params& p = *static_cast<const Params*>(params);
  const float* x = static_cast<const float*>(bufs[0]);
  float* y = static_cast<float*>(bufs[1]);
  float* scratch = static_cast<float*>(bufs[2]);
  for (int64_t item = begin; item < end; ++item) {
    if (p.inner == 1) {
      row<V>(x + item * p.n, y + item * p.n, p.n, p.log != 0);
    } else {
      const int64_t c = item % p.blocks * kBlock;
      const int64_t at = item / p.blocks * p.n * p.inner + c;
      columns<V>(x + at, y + at, p.n, p.inner, p.inner - c < kBlock ? p.inner - c : kBlock, p.log != 0, scratch);
    }
  }
}

}  // namespace softmax_impl
}  // namespace
}  // namespace irk
