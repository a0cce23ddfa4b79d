// Kernels of fixed size for ISAs that load weights for every tile: 3x3 and 5x5, column stride 1 and 2.
#pragma once
#include "dwconv/generic.h"

namespace {

// KH x KW kernel with column stride S and dilation 1. INSIDE: the span of each row is contiguous at ptr[row * span].
template <int KH, int KW, int S, int T, bool INSIDE, bool TAIL>
inline void vec(const DwParams& p, const Tile& t, int64_t v) {
  constexpr int kSpan = (T - 1) * S + KW;
  const int64_t c = v * V::N, n = TAIL ? p.c - c : V::N;
  const float* w = p.w + v * (KH * KW * V::N);
  V::F acc[T];
  const V::F b = V::load(p.bias + c);
  IRK_UNROLL for (int j = 0; j < T; j++) acc[j] = b;
  IRK_UNROLL for (int a = 0; a < KH; a++) {
    V::F wr[KW];
    IRK_UNROLL for (int k = 0; k < KW; k++) wr[k] = V::load(w + (a * KW + k) * V::N);
    IRK_UNROLL for (int q = 0; q < kSpan; q++) {
      const float* s = (INSIDE ? t.ptr[a * kSpan] + q * t.px : t.ptr[a * kSpan + q]) + c;
      const V::F x = TAIL ? V::load_n(s, n) : V::load(s);
      IRK_UNROLL for (int j = 0; j < T; j++) {
        const int k = q - j * S;
        if (k >= 0 && k < KW) acc[j] = V::fma(x, wr[k], acc[j]);
      }
    }
  }
  put<T>(p, t, acc, c);
}

template <int KH, int KW, int S, int T, bool INSIDE>
void fixed(const DwParams& p, const Tile& t) {
  int64_t v = t.v0;
  for (; v < t.v1 && (v + 1) * V::N <= p.c; v++) vec<KH, KW, S, T, INSIDE, false>(p, t, v);
  if (V::N > 1 && v < t.v1) vec<KH, KW, S, T, INSIDE, true>(p, t, v);
}

template <int KH, int KW, int S>
constexpr Kernels fixed_kernels() {
  return {fixed<KH, KW, S, 4, true>,
          {nullptr, fixed<KH, KW, S, 1, false>, fixed<KH, KW, S, 2, false>, fixed<KH, KW, S, 3, false>,
           fixed<KH, KW, S, 4, false>},
          true};
}

Kernels choose(const DwParams& p) {
  if (p.dilation[0] == 1 && p.dilation[1] == 1 && p.kh == p.kw) {
    const int64_t k = p.kh, s = p.stride[1];
    if (k == 3 && s == 1) return fixed_kernels<3, 3, 1>();
    if (k == 3 && s == 2) return fixed_kernels<3, 3, 2>();
    if (k == 5 && s == 1) return fixed_kernels<5, 5, 1>();
    if (k == 5 && s == 2) return fixed_kernels<5, 5, 2>();
  }
  return kAny;
}

}  // namespace
