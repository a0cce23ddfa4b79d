// The kernel of all ISAs; an ISA file defines V, a type of base/vec_<isa>.h.
#pragma once
#include "base/vmath.h"
#include "dwconv/dwconv.h"

namespace {

using irk::Act;
namespace vmath = irk::vmath;
using irk::DwParams;
using irk::kDwCols;

#define IRK_UNROLL _Pragma("GCC unroll 32")

inline V::F load(const float* p, int64_t n) { return n < V::N ? V::load_n(p, n) : V::load(p); }

// Output columns of one row, vectors [v0, v1) of channels.
struct Tile {
  const float* const* ptr;  // [tap][columns]
  float* out;
  const float* res;
  int64_t v0, v1;
};

inline V::F finish(const DwParams& p, V::F x, const float* res, const float* slope, int64_t n) {
  if (res) x = V::add(x, load(res, n));
  if (p.act.act == Act::clip) return vmath::clip<V>(x, V::set(p.act.lo), V::set(p.act.hi));
  if (p.act.act == Act::leaky) return vmath::leaky<V>(x, V::load(slope));
  return vmath::hardswish<V>(x);
}

template <int T>
inline void put(const DwParams& p, const Tile& t, const V::F* acc, int64_t c) {
  const int64_t n = p.c - c;
  if (p.act.act == Act::clip && !t.res && n >= V::N) {
    const V::F lo = V::set(p.act.lo), hi = V::set(p.act.hi);
    IRK_UNROLL for (int j = 0; j < T; j++) V::store(t.out + j * p.c + c, vmath::clip<V>(acc[j], lo, hi));
    return;
  }
  for (int j = 0; j < T; j++) {
    const V::F y = finish(p, acc[j], t.res ? t.res + j * p.c + c : nullptr, p.slope ? p.slope + c : nullptr, n);
    if (n < V::N) {
      V::store_n(t.out + j * p.c + c, y, n);
    } else {
      V::store(t.out + j * p.c + c, y);
    }
  }
}

template <int T>
void any(const DwParams& p, const Tile& t) {
  const int64_t taps = p.kh * p.kw;
  for (int64_t v = t.v0; v < t.v1; v++) {
    const int64_t c = v * V::N, n = p.c - c;
    const float* w = p.w + v * taps * V::N;
    V::F acc[T];
    const V::F b = V::load(p.bias + c);
    IRK_UNROLL for (int j = 0; j < T; j++) acc[j] = b;
    for (int64_t k = 0; k < taps; k++) {
      const V::F wk = V::load(w + k * V::N);
      const float* const* q = t.ptr + k * T;
      IRK_UNROLL for (int j = 0; j < T; j++) acc[j] = V::fma(load(q[j] + c, n), wk, acc[j]);
    }
    put<T>(p, t, acc, c);
  }
}

typedef void (*TileFn)(const DwParams&, const Tile&);

constexpr TileFn kAny[kDwCols + 1] = {nullptr, any<1>, any<2>, any<3>, any<4>};

// Place of a row in a buffer that holds `rows` of them.
inline int64_t wrap(int64_t row, int64_t rows) { return row < rows ? row : row % rows; }

void row(const DwParams& p, void* const* bufs, int64_t image, int64_t i, int64_t v0, int64_t v1) {
  const float** ptr = static_cast<const float**>(bufs[irk::kDwScratch]);
  const float* x = static_cast<const float*>(bufs[irk::kDwX]);
  const int64_t at = wrap(image * p.oh + i, p.out_rows) * p.ow * p.c;
  float* y = static_cast<float*>(bufs[irk::kDwOut]) + at;
  const float* res = static_cast<const float*>(bufs[irk::kDwResidual]);
  const int64_t top = i * p.stride[0] - p.pad[0];
  Tile t;
  t.ptr = ptr;
  t.v0 = v0;
  t.v1 = v1;
  for (int64_t j = 0, cols; j < p.ow; j += cols) {
    cols = p.ow - j < kDwCols ? p.ow - j : kDwCols;
    const int64_t left = j * p.stride[1] - p.pad[1];
    const float** q = ptr;
    for (int64_t a = 0; a < p.kh; a++) {
      const int64_t yy = top + a * p.dilation[0];
      const bool in = yy >= 0 && yy < p.ih;
      const float* line = in ? x + wrap(image * p.ih + yy, p.in_rows) * p.iw * p.c : nullptr;
      for (int64_t b = 0; b < p.kw; b++)
        for (int64_t k = 0; k < cols; k++) {
          const int64_t xx = left + k * p.stride[1] + b * p.dilation[1];
          *q++ = in && xx >= 0 && xx < p.iw ? line + xx * p.c : p.zero;
        }
    }
    t.out = y + j * p.c;
    t.res = res ? res + at + j * p.c : nullptr;
    kAny[cols](p, t);
  }
}

// Calls rows(image, first row, last row, v0, v1) for the bands and channel blocks of items [begin, end).
template <class Rows>
void run(const DwParams& p, int64_t begin, int64_t end, Rows rows) {
  for (int64_t item = begin; item < end; item++) {
    const int64_t cb = item % p.cblocks, r = item / p.cblocks, band = r % p.bands, image = r / p.bands;
    rows(image, band * p.oh / p.bands, (band + 1) * p.oh / p.bands, cb * p.nvec / p.cblocks,
         (cb + 1) * p.nvec / p.cblocks);
  }
}

inline void run_rows(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const DwParams& p = *static_cast<const DwParams*>(params);
  run(p, begin, end, [&](int64_t image, int64_t first, int64_t last, int64_t v0, int64_t v1) {
    for (int64_t i = first; i < last; i++) row(p, bufs, image, i, v0, v1);
  });
}

}  // namespace
