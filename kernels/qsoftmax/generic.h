// Three passes over a row in cache: maximum, exact sum of table entries, quotients in blocks.
#pragma once
#include <string.h>

#include "base/lanes.h"
#include "qsoftmax/qsoftmax.h"

namespace {

template <class L>
void quotients(const irk::QsoftmaxParams& p, typename L::F sum, const int32_t* e, float* y) {
  (void)p;
  L::store(y, L::div(L::to_f(L::loadi(e)), sum));
}

template <class L>
void quotients(const irk::QsoftmaxParams& p, typename L::F sum, const int32_t* e, int8_t* y) {
  const typename L::F lo = L::set(static_cast<float>(-128 - p.zy)), hi = L::set(static_cast<float>(127 - p.zy));
  const typename L::F f = L::mul(L::div(L::to_f(L::loadi(e)), sum), L::set(p.m));
  L::store8(y, L::addi(L::rint(L::clamp(f, lo, hi)), L::seti(p.zy)));
}

template <class L, class T>
void run_qsoftmax(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 64;
  const irk::QsoftmaxParams& p = *static_cast<const irk::QsoftmaxParams*>(params);
  for (int64_t item = begin; item < end; item++) {
    const int64_t at = item / p.inner * p.n * p.inner + item % p.inner;
    const int8_t* x = static_cast<const int8_t*>(bufs[0]) + at;
    T* y = static_cast<T*>(bufs[2]) + at;
    int max = -128;
    for (int64_t i = 0; i < p.n; i++) max = x[i * p.inner] > max ? x[i * p.inner] : max;
    int64_t sum = 0;
    for (int64_t i = 0; i < p.n; i++) sum += p.table[max - x[i * p.inner]];
    const typename L::F all = L::set(static_cast<float>(sum));
    for (int64_t i = 0; i < p.n; i += kBlock) {
      int32_t e[kBlock] = {};
      T out[kBlock];
      const int64_t n = p.n - i < kBlock ? p.n - i : kBlock;
      for (int64_t j = 0; j < n; j++) e[j] = p.table[max - x[(i + j) * p.inner]];
      for (int64_t j = 0; j < n; j += L::N) quotients<L>(p, all, e + j, out + j);
      if (p.inner == 1)
        memcpy(y + i, out, static_cast<size_t>(n) * sizeof(T));
      else
        for (int64_t j = 0; j < n; j++) y[(i + j) * p.inner] = out[j];
    }
  }
}

}  // namespace

#define IRK_QSOFTMAX(isa, L)                                                                                  \
  extern "C" void irk_qsoftmax_s8_##isa(void* const* bufs, const void* params, int64_t begin, int64_t end) {  \
    run_qsoftmax<L, int8_t>(bufs, params, begin, end);                                                        \
  }                                                                                                           \
  extern "C" void irk_qsoftmax_f32_##isa(void* const* bufs, const void* params, int64_t begin, int64_t end) { \
    run_qsoftmax<L, float>(bufs, params, begin, end);                                                         \
  }
