// Bilinear: rows are blended first, then columns, each as a * (1 - t) + b * t without FMA: the same bits on every ISA.
#pragma once
#include <string.h>

#include "base/lanes.h"
#include "resize/resize.h"

namespace {

template <class T>
void run_nearest(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::ResizeParams& p = *static_cast<const irk::ResizeParams*>(params);
  const size_t pixel = static_cast<size_t>(p.inner) * sizeof(T);
  for (int64_t item = begin; item < end; item++) {
    const int64_t outer = item / p.oh, oh = item % p.oh;
    const T* x = static_cast<const T*>(bufs[0]) + (outer * p.h + p.row0[oh]) * p.w * p.inner;
    T* y = static_cast<T*>(bufs[p.n_in]) + item * p.ow * p.inner;
    if (oh > 0 && item > begin && p.row0[oh] == p.row0[oh - 1]) {  // the row above is the same, and just written
      memcpy(y, y - p.ow * p.inner, static_cast<size_t>(p.ow) * pixel);
    } else if (p.inner == 1) {
      for (int64_t i = 0; i < p.ow; i++) y[i] = x[p.col0[i]];
    } else {
      for (int64_t i = 0; i < p.ow; i++) memcpy(y + i * p.inner, x + p.col0[i] * p.inner, pixel);
    }
  }
}

template <class L>
typename L::F blend(typename L::F a, typename L::F b, typename L::F s, typename L::F t) {
  return L::add(L::mul(a, s), L::mul(b, t));
}

// W lanes of one pixel from its four neighbours.
template <class L>
void blend4(const float* a, const float* b, const float* c, const float* d, float rt, float ct, float* y) {
  const typename L::F r1 = L::set(rt), r0 = L::set(1.0f - rt), c1 = L::set(ct), c0 = L::set(1.0f - ct);
  L::store(y, blend<L>(blend<L>(L::load(a), L::load(b), r0, r1), blend<L>(L::load(c), L::load(d), r0, r1), c0, c1));
}

template <class L>
void run_bilinear(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::ResizeParams& p = *static_cast<const irk::ResizeParams*>(params);
  const float* x = static_cast<const float*>(bufs[0]);
  for (int64_t item = begin; item < end; item++) {
    const int64_t outer = item / p.oh, oh = item % p.oh;
    const float* r0 = x + (outer * p.h + p.row0[oh]) * p.w * p.inner;
    const float* r1 = x + (outer * p.h + p.row1[oh]) * p.w * p.inner;
    const float rt = p.row_t[oh];
    float* y = static_cast<float*>(bufs[p.n_in]) + item * p.ow * p.inner;
    for (int64_t i = 0; i < p.ow; i++, y += p.inner) {
      const int64_t c0 = p.col0[i] * p.inner, c1 = p.col1[i] * p.inner;
      const float ct = p.col_t[i];
      int64_t k = 0;
      for (; k + L::N <= p.inner; k += L::N)
        blend4<L>(r0 + c0 + k, r1 + c0 + k, r0 + c1 + k, r1 + c1 + k, rt, ct, y + k);
      for (; k < p.inner; k++) blend4<One>(r0 + c0 + k, r1 + c0 + k, r0 + c1 + k, r1 + c1 + k, rt, ct, y + k);
    }
  }
}

}  // namespace

#define IRK_RESIZE(types, isa, fn)                                                                                \
  extern "C" void irk_resize_##types##_##isa(void* const* bufs, const void* params, int64_t begin, int64_t end) { \
    fn(bufs, params, begin, end);                                                                                 \
  }
