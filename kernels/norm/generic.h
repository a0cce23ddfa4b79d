// Layer normalisation in two passes over a row that stays in cache: mean, then variance about it (Welford's concern,
// without his division per element). Sums by base/fold.h.
#pragma once
#include "base/fold.h"
#include "norm/norm.h"

namespace irk {
namespace {
namespace norm_impl {

using norm::Params;

template <class V>
void row(const float* x, const float* gamma, const float* beta, float* y, int64_t n, float eps) {
  typedef typename V::F F;
  const float count = static_cast<float>(n);
  Lanes<V, SumOp> sum;
  sum.clear();
  sum.take(n, [x](int64_t i, int64_t part) __attribute__((always_inline)) { return load_some<V>(x + i, part); });
  const F mean = V::set(sum.total() / count);
  sum.clear();
  sum.take(n, [x, mean](int64_t i, int64_t part) __attribute__((always_inline)) {
    const F d = V::sub(load_some<V>(x + i, part), mean);
    return V::mul(d, d);
  });
  const F scale = V::div(V::set(1.0f), V::sqrt(V::set(sum.total() / count + eps)));
  for (int64_t i = 0; i < n; i += V::N) {
    const int64_t part = i + V::N <= n ? -1 : n - i;
    F v = V::mul(V::sub(load_some<V>(x + i, part), mean), scale);
    if (gamma) v = V::mul(v, load_some<V>(gamma + i, part));
    if (beta) v = V::add(v, load_some<V>(beta + i, part));
    store_some<V>(y + i, v, part);
  }
}

template <class V>
void run(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const Params& p = *static_cast<const Params*>(params);
  const float* x = static_cast<const float*>(bufs[0]);
  const float* gamma = static_cast<const float*>(bufs[1]);
  const float* beta = static_cast<const float*>(bufs[2]);
  float* y = static_cast<float*>(bufs[3]);
  for (int64_t r = begin; r < end; ++r) row<V>(x + r * p.n, gamma, beta, y + r * p.n, p.n, p.eps);
}

}  // namespace norm_impl
}  // namespace
}  // namespace irk
