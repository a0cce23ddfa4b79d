// Loops over contiguous floats that touch nothing past the end; V is one of base/vec_<isa>.h.
#pragma once
#include <stdint.h>

#include "base/vmath.h"

namespace irk {
namespace {

// A whole vector when part < 0, else its first `part` lanes.
template <class V>
IRK_INLINE typename V::F load_some(const float* p, int64_t part) {
  return part < 0 ? V::load(p) : V::load_n(p, part);
}
template <class V>
IRK_INLINE void store_some(float* p, typename V::F v, int64_t part) {
  if (part < 0) {
    V::store(p, v);
  } else {
    V::store_n(p, v, part);
  }
}

// y[i] = fn(x[i]).
template <class V, class Fn>
IRK_INLINE void map(const float* x, float* y, int64_t n, Fn fn) {
  int64_t i = 0;
  for (; i + V::N <= n; i += V::N) V::store(y + i, fn(V::load(x + i)));
  if (i < n) V::store_n(y + i, fn(V::load_n(x + i, n - i)), n - i);
}

// y[i] = fn(a[i], b[i]).
template <class V, class Fn>
IRK_INLINE void map2(const float* a, const float* b, float* y, int64_t n, Fn fn) {
  int64_t i = 0;
  for (; i + V::N <= n; i += V::N) V::store(y + i, fn(V::load(a + i), V::load(b + i)));
  if (i < n) V::store_n(y + i, fn(V::load_n(a + i, n - i), V::load_n(b + i, n - i)), n - i);
}

}  // namespace
}  // namespace irk
