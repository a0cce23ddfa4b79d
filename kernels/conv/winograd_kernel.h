// Winograd's convolution on the register tiles of an ISA (conv/winograd.h); an ISA file includes this after generic.h.
#pragma once
#include "conv/generic.h"
#include "conv/winograd_filter.h"

namespace {

using irk::WinogradParams;

#define IRK_LINES _Pragma("GCC unroll 1")  // rows and columns of a tile one by one: small code, hardly slower

constexpr float kA = irk::kWinoA, kB = irk::kWinoB, kA2 = kA * kA, kB2 = kB * kB;

// One row or column of B^T d B: T + 2 values from d, d + ds, ... to o, o + os, ...
template <int T>
IRK_INLINE void transform_in(const V::F (&d)[T + 2], V::F (&o)[T + 2]) {
  if constexpr (T == 2) {
    o[0] = V::sub(d[0], d[2]);
    o[1] = V::add(d[1], d[2]);
    o[2] = V::sub(d[2], d[1]);
    o[3] = V::sub(d[3], d[1]);
  } else {
    const V::F product = V::set(kA2 * kB2), sum = V::set(-(kA2 + kB2)), a2 = V::set(-kA2), b2 = V::set(-kB2);
    o[0] = V::fma(product, d[0], V::fma(sum, d[2], d[4]));
    o[5] = V::fma(product, d[1], V::fma(sum, d[3], d[5]));
    const V::F ae = V::fma(b2, d[2], d[4]), ao = V::fma(b2, d[1], d[3]);
    const V::F be = V::fma(a2, d[2], d[4]), bo = V::fma(a2, d[1], d[3]);
    o[1] = V::fma(V::set(kA), ao, ae);
    o[2] = V::fma(V::set(-kA), ao, ae);
    o[3] = V::fma(V::set(kB), bo, be);
    o[4] = V::fma(V::set(-kB), bo, be);
  }
}

// One row or column of A^T m A.
template <int T>
IRK_INLINE void transform_out(const V::F (&m)[T + 2], V::F (&o)[T]) {
  if constexpr (T == 2) {
    o[0] = V::add(V::add(m[0], m[1]), m[2]);
    o[1] = V::add(V::sub(m[1], m[2]), m[3]);
  } else {
    const V::F as = V::add(m[1], m[2]), ad = V::sub(m[1], m[2]), bs = V::add(m[3], m[4]), bd = V::sub(m[3], m[4]);
    o[0] = V::add(V::add(m[0], as), bs);
    o[1] = V::fma(V::set(kA), ad, V::mul(V::set(kB), bd));
    o[2] = V::fma(V::set(kA2), as, V::mul(V::set(kB2), bs));
    o[3] = V::fma(V::set(kA2 * kA), ad, V::fma(V::set(kB2 * kB), bd, m[5]));
  }
}

struct TilePlace {
  int64_t n, y, x;  // image, and first output pixel
};

inline TilePlace place(const WinogradParams& p, int64_t t) {
  return {t / p.tiles_w / p.tiles_h, t / p.tiles_w % p.tiles_h * p.tile, t % p.tiles_w * p.tile};
}

// Where the pixels of a tile's window are; zeros beside the input.
IRK_NOINLINE void window_of(const WinogradParams& p, const TilePlace& at, const float* x, const float** src) {
  const int64_t edge = p.tile + 2, x0 = at.x - p.pad[1];
  for (int64_t i = 0; i < edge; i++) {
    const int64_t y = at.y - p.pad[0] + i;
    const bool in = static_cast<uint64_t>(y) < static_cast<uint64_t>(p.ih);
    const float* row = x + ((at.n * p.ih + y) * p.iw + x0) * p.ic;
    _Pragma("GCC unroll 1") for (int64_t j = 0; j < edge; j++, row += p.ic) {
      *src++ = in && static_cast<uint64_t>(x0 + j) < static_cast<uint64_t>(p.iw) ? row : p.zero;
    }
  }
}

// The last channels, with zeros behind them.
IRK_NOINLINE void pad_channels(const float** src, int64_t c, int64_t n, int64_t pixels, float* part) {
  _Pragma("GCC unroll 1") for (int64_t i = 0; i < pixels; i++, part += V::N) {
    V::store(part, V::load_n(src[i] + c, n));
    src[i] = part;
  }
}

// Transformed input of tiles [t0, t1): v[position * v_step + (t - t0) * v_row + channel].
template <int T>
void transform_tiles(const WinogradParams& p, const float* x, int64_t t0, int64_t t1, float* v) {
  constexpr int E = T + 2;
  for (int64_t t = t0; t < t1; t++, v += p.v_row) {
    const float* src[E * E];
    float part[E * E * V::N], half[E * E * V::N];
    window_of(p, place(p, t), x, src);
    for (int64_t c = 0; c < p.ic; c += V::N) {
      int64_t from = c;
      if (p.ic - c < V::N) pad_channels(src, c, p.ic - c, E * E, part), from = 0;
      IRK_LINES for (int j = 0; j < E; j++) {
        V::F d[E], o[E];
        IRK_UNROLL for (int i = 0; i < E; i++) d[i] = V::load(src[i * E + j] + from);
        transform_in<T>(d, o);
        IRK_UNROLL for (int i = 0; i < E; i++) V::store(half + (i * E + j) * V::N, o[i]);
      }
      float* q = v + c;
      IRK_LINES for (int i = 0; i < E; i++) {
        V::F d[E], o[E];
        IRK_UNROLL for (int j = 0; j < E; j++) d[j] = V::load(half + (i * E + j) * V::N);
        transform_in<T>(d, o);
        IRK_UNROLL for (int j = 0; j < E; j++, q += p.v_step) V::store(q, o[j]);
      }
    }
  }
}

// Bias, residual and activation of one vector of the pixels of a tile, n channels of it, from first element `off` on.
IRK_NOINLINE void finish_vector(const WinogradParams& p, const TilePlace& at, const float* sums, int64_t c, int64_t n,
                                const float* res, float* y) {
  const V::F lo = V::set(p.act.lo), hi = V::set(p.act.hi), bias = V::load(p.bias + c);
  const int64_t rows = p.oh - at.y < p.tile ? p.oh - at.y : p.tile;
  const int64_t columns = p.ow - at.x < p.tile ? p.ow - at.x : p.tile;
  for (int64_t i = 0; i < rows; i++, sums += p.tile * V::N) {
    int64_t off = ((at.n * p.oh + at.y + i) * p.ow + at.x) * p.oc + c;
    _Pragma("GCC unroll 1") for (int64_t j = 0; j < columns; j++, off += p.oc) {
      V::F s = V::add(V::load(sums + j * V::N), bias);
      if (res) s = V::add(s, n < V::N ? V::load_n(res + off, n) : V::load(res + off));
      if (p.act.act == Act::clip) {
        s = vmath::clip<V>(s, lo, hi);
      } else if (p.act.act == Act::leaky) {
        s = vmath::leaky<V>(s, V::load(p.slope + c));
      } else {
        s = vmath::hardswish<V>(s);
      }
      if (n < V::N) {
        V::store_n(y + off, s, n);
      } else {
        V::store(y + off, s);
      }
    }
  }
}

// Output pixels of tiles [t0, t1), columns [c0, c0 + cols), from the products m[position * m_step + (t - t0) * width].
template <int T>
void finish_tiles(const WinogradParams& p, const float* m, int64_t width, int64_t t0, int64_t t1, int64_t c0,
                  int64_t cols, const float* res, float* y) {
  constexpr int E = T + 2;
  for (int64_t t = t0; t < t1; t++, m += width) {
    const TilePlace at = place(p, t);
    float half[T * E * V::N], sums[T * T * V::N];
    for (int64_t c = 0; c < cols; c += V::N) {
      const float* q = m + c;
      IRK_LINES for (int i = 0; i < E; i++) {
        V::F d[E], o[T];
        IRK_UNROLL for (int j = 0; j < E; j++, q += p.m_step) d[j] = V::load(q);
        transform_out<T>(d, o);
        IRK_UNROLL for (int j = 0; j < T; j++) V::store(half + (j * E + i) * V::N, o[j]);
      }
      IRK_LINES for (int j = 0; j < T; j++) {
        V::F d[E], o[T];
        IRK_UNROLL for (int i = 0; i < E; i++) d[i] = V::load(half + (j * E + i) * V::N);
        transform_out<T>(d, o);
        IRK_UNROLL for (int i = 0; i < T; i++) V::store(sums + (i * T + j) * V::N, o[i]);
      }
      finish_vector(p, at, sums, c0 + c, cols - c, res, y);
    }
  }
}

// Transformed weights of a panel: u[position * w_step + channel * width + column].
template <int T>
void transform_panel(const WinogradParams& p, const float* g, int64_t width, float* u) {
  for (int64_t k = 0; k < p.ic; k++, g += 8 * width)
    for (int64_t c = 0; c < width; c += V::N, g += V::N, u += V::N) irk::transform_filter<V, T>(g, width, u, p.w_step);
}

// Products of all positions: `rows` tiles times a panel of nv vectors of columns, whose positions are w_step floats
// apart. Meanwhile the `size` floats from `next` on come closer.
template <class Table>
void multiply(const WinogradParams& p, const Table& fns, const float* v, const float* w, int64_t w_step,
              const float* next, int64_t size, int64_t rows, int64_t nv, float* m) {
  const int64_t width = nv * V::N, positions = (p.tile + 2) * (p.tile + 2);
  const int64_t tiles = (rows + p.max_rows - 1) / p.max_rows;
  Tile t;
  t.taps = 1;
  t.run = p.ic;
  t.bias = p.zero;
  t.n = width;
  t.col = t.res = 0;
  t.has_res = t.clips = false;
  if (kFetches) t.fetch = false;
  t.lo = -__builtin_inff();
  t.hi = __builtin_inff();
  const int64_t part = size * 4 / (positions * tiles);  // bytes while one tile is computed
  const char* ahead = reinterpret_cast<const char*>(next);
  t.ahead_step = p.prefetch ? (part + p.ic - 1) / p.ic : 0;
  for (int64_t k = 0; k < positions; k++, w += w_step, v += p.v_step, m += p.m_step) {
    t.w = w;
    for (int64_t r = 0; r < tiles; r++) {
      const int64_t a = r * rows / tiles, b = (r + 1) * rows / tiles;
      const float* in[16];
      float* out[16];
      _Pragma("GCC unroll 1") for (int64_t i = 0; i < b - a; i++) {
        asm("");  // no loop of vectors for a few pointers
        in[i] = v + (a + i) * p.v_row;
        out[i] = m + (a + i) * width;
      }
      t.rows = in;
      t.out = out;
      t.ahead = ahead;
      ahead += part;
      fns.fn[nv][b - a](t);
    }
  }
}

template <class Table>
void run_winograd(const Table& fns, void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const WinogradParams& p = *static_cast<const WinogradParams*>(params);
  const float* x = static_cast<const float*>(bufs[irk::kConvX]);
  const float* res = static_cast<const float*>(bufs[irk::kConvResidual]);
  float* y = static_cast<float*>(bufs[irk::kConvOut]);
  float* v = static_cast<float*>(bufs[irk::kConvScratch]);
  const int64_t positions = (p.tile + 2) * (p.tile + 2);
  float* m = v + positions * p.v_step;
  float* made = m + positions * p.m_step;
  uint64_t ready = 0;  // panels whose transformed weights are there, if all are kept
  const auto transform = p.tile == 4 ? transform_tiles<4> : transform_tiles<2>;
  const auto transform_weights = p.tile == 4 ? transform_panel<4> : transform_panel<2>;
  const auto finish = p.tile == 4 ? finish_tiles<4> : finish_tiles<2>;
  int64_t held = -1;  // block of tiles whose transformed input is in v
  for (int64_t item = begin; item < end; item++) {
    const int64_t mb = item / p.nblocks, nb = item % p.nblocks;
    const int64_t t0 = mb * p.tiles / p.mblocks, t1 = (mb + 1) * p.tiles / p.mblocks;
    if (mb != held) transform(p, x, t0, t1, v);
    held = mb;
    for (int64_t q = nb * p.panels / p.nblocks; q < (nb + 1) * p.panels / p.nblocks; q++) {
      const int64_t v0 = q * p.nvec / p.panels, nv = (q + 1) * p.nvec / p.panels - v0, c0 = v0 * V::N;
      const int64_t cols = p.oc - c0 < nv * V::N ? p.oc - c0 : nv * V::N;
      const int64_t kept = p.held ? positions : 9, size = kept * p.ic * nv * V::N;
      const float* w = p.w + kept * p.ic * c0;
      const float* u = w;
      if (!p.held) {
        float* to = made + (p.whole ? q * positions * p.w_step : 0);
        if (!(ready >> (q & 63) & 1)) transform_weights(p, w, nv * V::N, to);
        if (p.whole) ready |= uint64_t{1} << q;
        u = to;
      }
      multiply(p, fns, v, u, p.held ? p.ic * nv * V::N : p.w_step, w + size, size, t1 - t0, nv, m);
      finish(p, m, nv * V::N, t0, t1, c0, cols, res, y);
    }
  }
}

}  // namespace
