// Sums are exact, so their order is free; the rest is one fixed sequence of float32 operations.
#pragma once
#include "base/lanes.h"
#include "pool/walk.h"
#include "qpool/qpool.h"

namespace {

// V vectors of lanes of one pixel. x: first tap.
template <class L, int V>
void average(const irk::QpoolParams& p, const int8_t* x, const irk::PoolWindow& r, const irk::PoolWindow& c, float m,
             int8_t* y) {
  typename L::I acc[V];
  for (int v = 0; v < V; v++) acc[v] = L::seti(-p.zx * static_cast<int32_t>(r.count * c.count));
  const int64_t row = p.shape.w * p.shape.inner;
  for (int64_t i = 0; i < r.count; i++, x += row) {
    const int8_t* tap = x;
    for (int64_t j = 0; j < c.count; j++, tap += p.shape.inner)
      for (int v = 0; v < V; v++) acc[v] = L::addi(acc[v], L::load8(tap + v * L::N));
  }
  const typename L::F lo = L::set(static_cast<float>(-128 - p.zy)), hi = L::set(static_cast<float>(127 - p.zy));
  for (int v = 0; v < V; v++) {
    const typename L::F f = L::clamp(L::mul(L::to_f(acc[v]), L::set(m)), lo, hi);
    L::store8(y + v * L::N, L::addi(L::rint(f), L::seti(p.zy)));
  }
}

template <class L>
void run_qpool(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::QpoolParams& p = *static_cast<const irk::QpoolParams*>(params);
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  int8_t* y = static_cast<int8_t*>(bufs[1]);
  each_pixel(p.shape, irk::kQpoolBlock, begin, end,
             [&](int64_t from, const irk::PoolWindow& r, const irk::PoolWindow& c, int64_t to, int64_t n) {
               const float m = static_cast<float>(p.sx / (p.sy * static_cast<double>(r.divisor * c.divisor)));
               int64_t i = 0;
               for (; i + 4 * L::N <= n; i += 4 * L::N) average<L, 4>(p, x + from + i, r, c, m, y + to + i);
               for (; i + L::N <= n; i += L::N) average<L, 1>(p, x + from + i, r, c, m, y + to + i);
               for (; i < n; i++) average<One, 1>(p, x + from + i, r, c, m, y + to + i);
             });
}

}  // namespace

#define IRK_QPOOL(isa, L)                                                                                 \
  extern "C" void irk_qpool_s8_##isa(void* const* bufs, const void* params, int64_t begin, int64_t end) { \
    run_qpool<L>(bufs, params, begin, end);                                                               \
  }
