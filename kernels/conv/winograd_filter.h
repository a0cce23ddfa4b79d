// G g G^T of Winograd's method (conv/winograd.h), for when a model is loaded and for kernels: the same operations.
#pragma once
#include "base/unroll.h"
#include "conv/winograd.h"

namespace irk {
namespace {

// One row or column.
template <class V, int T>
IRK_INLINE void filter_line(const typename V::F (&g)[3], typename V::F (&u)[T + 2]) {
  typedef typename V::F F;
  if constexpr (T == 2) {
    const F half = V::set(0.5f), even = V::mul(half, V::add(g[0], g[2])), odd = V::mul(half, g[1]);
    u[0] = g[0];
    u[1] = V::add(even, odd);
    u[2] = V::sub(even, odd);
    u[3] = g[2];
  } else {
    constexpr double a = kWinoA, b = kWinoB, a2 = a * a, b2 = b * b, da = 2 * (a2 - b2), db = -da;
    constexpr float k0 = 1 / (a2 * b2), a0 = 1 / (da * a2), a1 = 1 / (da * a), aa = 1 / da, b0 = 1 / (db * b2),
                    b1 = 1 / (db * b), bb = 1 / db;
    const F ae = V::add(V::mul(V::set(a0), g[0]), V::mul(V::set(aa), g[2])), ao = V::mul(V::set(a1), g[1]);
    const F be = V::add(V::mul(V::set(b0), g[0]), V::mul(V::set(bb), g[2])), bo = V::mul(V::set(b1), g[1]);
    u[0] = V::mul(V::set(k0), g[0]);
    u[1] = V::add(ae, ao);
    u[2] = V::sub(ae, ao);
    u[3] = V::add(be, bo);
    u[4] = V::sub(be, bo);
    u[5] = g[2];
  }
}

// A vector of filters: taps are `gs` floats apart, transformed ones `us`. Loops, for small code.
template <class V, int T>
IRK_INLINE void transform_filter(const float* g, int64_t gs, float* u, int64_t us) {
  constexpr int E = T + 2;
  float half[E * 3 * V::N];
  _Pragma("GCC unroll 1") for (int j = 0; j < 3; j++, g += gs) {
    const typename V::F taps[3] = {V::load(g), V::load(g + 3 * gs), V::load(g + 6 * gs)};
    typename V::F line[E];
    filter_line<V, T>(taps, line);
    _Pragma("GCC unroll 6") for (int i = 0; i < E; i++) V::store(half + (3 * i + j) * V::N, line[i]);
  }
  _Pragma("GCC unroll 1") for (int i = 0; i < E; i++) {
    const float* h = half + 3 * i * V::N;
    const typename V::F taps[3] = {V::load(h), V::load(h + V::N), V::load(h + 2 * V::N)};
    typename V::F line[E];
    filter_line<V, T>(taps, line);
    _Pragma("GCC unroll 6") for (int j = 0; j < E; j++, u += us) V::store(u, line[j]);
  }
}

}  // namespace
}  // namespace irk
