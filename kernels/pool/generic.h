// Pooling over lanes. Taps are taken row by row, so that sums have one order on every ISA.
#pragma once
#include <math.h>
#include <string.h>

#include "base/lanes.h"
#include "base/unroll.h"
#include "pool/pool.h"
#include "pool/walk.h"

namespace {

struct MaxOp {
  static float start() { return -INFINITY; }
  template <class L>
  static typename L::F step(typename L::F acc, typename L::F x) {
    return L::max_nan(acc, x);
  }
  template <class L>
  static typename L::F finish(typename L::F acc, float) {
    return acc;
  }
};

struct AvgOp {
  static float start() { return 0.0f; }
  template <class L>
  static typename L::F step(typename L::F acc, typename L::F x) {
    return L::add(acc, x);
  }
  template <class L>
  static typename L::F finish(typename L::F acc, float divisor) {
    return L::div(acc, L::set(divisor));
  }
};

// V vectors of lanes of one pixel. x: first tap.
template <class L, class Op, int V>
void pool_lanes(const irk::PoolShape& s, const float* x, const irk::PoolWindow& r, const irk::PoolWindow& c, float div,
                float* y) {
  typename L::F acc[V];
  for (int v = 0; v < V; v++) acc[v] = L::set(Op::start());
  const int64_t col = s.dil_w * s.inner, row = s.dil_h * s.w * s.inner;
  for (int64_t i = 0; i < r.count; i++, x += row) {
    const float* tap = x;
    for (int64_t j = 0; j < c.count; j++, tap += col)
      for (int v = 0; v < V; v++) acc[v] = Op::template step<L>(acc[v], L::load(tap + v * L::N));
  }
  for (int v = 0; v < V; v++) L::store(y + v * L::N, Op::template finish<L>(acc[v], div));
}

template <class L, class Op>
void run_pool(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::PoolShape& s = static_cast<const irk::PoolParams*>(params)->shape;
  const float* x = static_cast<const float*>(bufs[0]);
  float* y = static_cast<float*>(bufs[1]);
  each_pixel(s, irk::kPoolBlock, begin, end,
             [&](int64_t from, const irk::PoolWindow& r, const irk::PoolWindow& c, int64_t to, int64_t n) {
               const float div = static_cast<float>(r.divisor * c.divisor);
               int64_t i = 0;
               for (; i + 4 * L::N <= n; i += 4 * L::N) pool_lanes<L, Op, 4>(s, x + from + i, r, c, div, y + to + i);
               for (; i + L::N <= n; i += L::N) pool_lanes<L, Op, 1>(s, x + from + i, r, c, div, y + to + i);
               for (; i < n; i++) pool_lanes<One, Op, 1>(s, x + from + i, r, c, div, y + to + i);
             });
}

// B bytes of one pixel, in a vector of GCC's vector extension: its compare-and-select is the ISA's byte maximum. A
// window of R rows and C columns, or any when these are 0.
template <int B, int R = 0, int C = 0>
void max_bytes(const irk::PoolShape& s, const int8_t* x, const irk::PoolWindow& r, const irk::PoolWindow& c,
               int8_t* y) {
  typedef int8_t Bytes __attribute__((vector_size(B)));
  Bytes acc;
  memset(&acc, -128, sizeof acc);
  const int64_t col = s.dil_w * s.inner, row = s.dil_h * s.w * s.inner;
  const auto taps = [&](const int8_t* p, int64_t count) IRK_LAMBDA {
    for (int64_t j = 0; j < count; j++, p += col) {
      Bytes tap;
      memcpy(&tap, p, sizeof tap);
      acc = tap > acc ? tap : acc;
    }
  };
  if constexpr (R == 0) {
    for (int64_t i = 0; i < r.count; i++, x += row) taps(x, c.count);
  } else {
    irk::unroll<R>([&](auto i) IRK_LAMBDA { taps(x + i * row, C); });
  }
  memcpy(y, &acc, sizeof acc);
}

// All bytes of a pixel: n of them.
template <int B, int R, int C>
void max_pixel(const irk::PoolShape& s, const int8_t* x, const irk::PoolWindow& r, const irk::PoolWindow& c, int8_t* y,
               int64_t n) {
  int64_t i = 0;
  for (; i + B <= n; i += B) max_bytes<B, R, C>(s, x + i, r, c, y + i);
  if constexpr (B > 16) {
    for (; i + 16 <= n; i += 16) max_bytes<16, R, C>(s, x + i, r, c, y + i);
    if (i < n && n >= 16) i = n - 16, max_bytes<16, R, C>(s, x + i, r, c, y + i), i = n;  // some of them once more
  }
  for (; i < n; i++) max_bytes<1>(s, x + i, r, c, y + i);
}

template <int B>
void run_max_bytes(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::PoolShape& s = static_cast<const irk::PoolParams*>(params)->shape;
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  int8_t* y = static_cast<int8_t*>(bufs[1]);
  each_pixel(s, irk::kPoolBlock, begin, end,
             [&](int64_t from, const irk::PoolWindow& r, const irk::PoolWindow& c, int64_t to, int64_t n) {
               // The loops over a window's taps take longer than its taps. Small devices have no room for more code.
               if constexpr (B > 16) {
                 if (r.count == 3 && c.count == 3) return max_pixel<B, 3, 3>(s, x + from, r, c, y + to, n);
                 if (r.count == 2 && c.count == 2) return max_pixel<B, 2, 2>(s, x + from, r, c, y + to, n);
               }
               max_pixel<B, 0, 0>(s, x + from, r, c, y + to, n);
             });
}

}  // namespace

#define IRK_POOL(types, isa, fn)                                                                                \
  extern "C" void irk_pool_##types##_##isa(void* const* bufs, const void* params, int64_t begin, int64_t end) { \
    fn(bufs, params, begin, end);                                                                               \
  }
#define IRK_POOL_ALL(isa, L, bytes)            \
  IRK_POOL(max_f32, isa, (run_pool<L, MaxOp>)) \
  IRK_POOL(avg_f32, isa, (run_pool<L, AvgOp>)) \
  IRK_POOL(max_i8, isa, run_max_bytes<bytes>)
