// 3x3 and 5x5 kernels for many registers (NEON): a vector of channels walks along a row of the output, its weights in
// registers, with up to eight columns in flight; columns beside the input are zeros, not loads.
#pragma once
#include "base/unroll.h"
#include "dwconv/generic.h"

namespace {

// A row of the output. Distances are in bytes, the only kind that a load of a vector adds for free.
struct Strip {
  const char* line[5];  // input row of each tap row at the first column of its window; zeros where it is outside
  int64_t move[5];      // from there to the next column
  char* out;
  const char* res;
  int64_t left;  // input column of the first window
};

IRK_INLINE V::F load_at(const char* p) { return V::load(reinterpret_cast<const float*>(p)); }
IRK_INLINE void store_at(char* p, V::F v) { V::store(reinterpret_cast<float*>(p), v); }

// T columns at x[a] + off[q]. EDGE: lz of the windows' columns lie left of the input and rz right of it.
template <int K, int S, int T, bool EDGE>
IRK_INLINE void columns(const V::F* w, const float* wp, V::F bias, const char* const (&x)[K], const int64_t* off,
                        int64_t lz, int64_t rz, const char* zero, V::F (&acc)[T]) {
  constexpr int kSpan = (T - 1) * S + K;
  IRK_UNROLL for (int j = 0; j < T; j++) acc[j] = bias;
  IRK_UNROLL for (int a = 0; a < K; a++) {
    V::F own[K];
    IRK_UNROLL for (int k = 0; k < K; k++) own[k] = K == 3 ? w[a * K + k] : V::load(wp + (a * K + k) * V::N);
    IRK_UNROLL for (int q = 0; q < kSpan; q++) {
      const char* s = x[a] + off[q];
      if (EDGE && q < K / 2) s = q < lz ? zero : s;
      if (EDGE && q >= kSpan - K / 2) s = kSpan - q <= rz ? zero : s;
      const V::F v = load_at(s);
      IRK_UNROLL for (int j = 0; j < T; j++) {
        const int k = q - j * S;
        if (k >= 0 && k < K) acc[j] = V::fma(v, own[k], acc[j]);
      }
    }
  }
}

// The end of `count` columns, `step` bytes apart, that a clip can't express.
__attribute__((noinline)) void finish_at(const DwParams& p, char* y, const char* res, const float* slope, int64_t step,
                                         int64_t count) {
  for (int64_t j = 0; j < count; j++, y += step, res += res ? step : 0)
    store_at(y, finish(p, load_at(y), reinterpret_cast<const float*>(res), slope, V::N));
}

// Columns [j0, j0 + n * T) of a row, vectors [v0, v1) of channels (whole ones).
template <int K, int S, int T>
void strip(const DwParams& p, const Strip& s, int64_t j0, int64_t n, int64_t v0, int64_t v1) {
  constexpr int kSpan = (T - 1) * S + K;
  int64_t off[kSpan];
  off[0] = 0;
  for (int q = 1; q < kSpan; q++) off[q] = off[q - 1] + p.c * 4;
  IRK_UNROLL for (int q = 1; q < kSpan; q++) asm("" : "+r"(off[q]));  // one register each, no sums in the loop
  const V::F lo = V::set(p.act.lo), hi = V::set(p.act.hi);
  const bool clip = p.act.act == Act::clip && !s.res;
  for (int64_t v = v0; v < v1; v++) {
    const int64_t c = v * V::N;
    const float* wp = p.w + v * (K * K * V::N);
    const V::F bias = V::load(p.bias + c);
    V::F w[9];
    if (K == 3) {
      IRK_UNROLL for (int k = 0; k < K * K; k++) w[k] = V::load(wp + k * V::N);
    }
    const char* x[K];
    IRK_UNROLL for (int a = 0; a < K; a++) x[a] = s.line[a] + j0 * s.move[a] + c * 4;
    char* y = s.out + (j0 * p.c + c) * 4;
    int64_t left = s.left + j0 * S;
    for (int64_t t = 0; t < n; t++) {
      V::F acc[T];
      if (K == 5) asm("" : "+r"(wp));  // too many for registers: load them again rather than from the stack
      // Narrow tiles are for narrow images, of which all columns are at the edge.
      if (K == 5 || T * S < 5 || left < 0 || left + kSpan > p.iw) {
        columns<K, S, T, true>(w, wp, bias, x, off, -left, left + kSpan - p.iw, reinterpret_cast<const char*>(p.zero),
                               acc);
      } else {
        columns<K, S, T, false>(w, wp, bias, x, off, 0, 0, nullptr, acc);
      }
      if (clip) {
        IRK_UNROLL for (int j = 0; j < T; j++) store_at(y + off[j], V::clip(acc[j], lo, hi));
      } else {
        IRK_UNROLL for (int j = 0; j < T; j++) store_at(y + off[j], acc[j]);
        finish_at(p, y, s.res ? s.res + (y - s.out) : nullptr, p.slope ? p.slope + c : nullptr, p.c * 4, T);
      }
      IRK_UNROLL for (int a = 0; a < K; a++) x[a] += T * s.move[a];
      y += T * p.c * 4;
      left += T * S;
    }
  }
}

typedef void (*StripFn)(const DwParams&, const Strip&, int64_t, int64_t, int64_t, int64_t);

// fn[T]: strips of T columns; null where that would be too much code for too few images.
struct Strips {
  StripFn fn[9];
  int most;
};

constexpr Strips kStrips31 = {{nullptr, strip<3, 1, 1>, strip<3, 1, 2>, strip<3, 1, 3>, strip<3, 1, 4>, strip<3, 1, 5>,
                               strip<3, 1, 6>, strip<3, 1, 7>, strip<3, 1, 8>},
                              8};
constexpr Strips kStrips51 = {
    {nullptr, strip<5, 1, 1>, strip<5, 1, 2>, strip<5, 1, 3>, strip<5, 1, 4>, nullptr, nullptr, strip<5, 1, 7>}, 7};
constexpr Strips kStrips32 = {{nullptr, strip<3, 2, 1>, strip<3, 2, 2>, strip<3, 2, 3>, strip<3, 2, 4>}, 4};
constexpr Strips kStrips52 = {{nullptr, strip<5, 2, 1>, strip<5, 2, 2>, strip<5, 2, 3>, strip<5, 2, 4>}, 4};

// Null where a window reaches further than half its width beside the input, or is of another kind.
const Strips* choose(const DwParams& p) {
  const int64_t k = p.kw, s = p.stride[1], right = (p.ow - 1) * s + k - p.pad[1] - p.iw;
  if (p.kh != k || p.dilation[0] != 1 || p.dilation[1] != 1 || p.pad[1] > k / 2 || right > k / 2) return nullptr;
  if (k == 3) return s == 1 ? &kStrips31 : s == 2 ? &kStrips32 : nullptr;
  if (k == 5) return s == 1 ? &kStrips51 : s == 2 ? &kStrips52 : nullptr;
  return nullptr;
}

void strips(const DwParams& p, const Strips& fns, void* const* bufs, int64_t image, int64_t i, int64_t v0, int64_t v1) {
  const char* x = static_cast<const char*>(bufs[irk::kDwX]);
  const int64_t at = wrap(image * p.oh + i, p.out_rows) * p.ow * p.c * 4, top = i * p.stride[0] - p.pad[0];
  const char* res = static_cast<const char*>(bufs[irk::kDwResidual]);
  Strip s;
  s.left = -p.pad[1];
  for (int64_t a = 0; a < p.kh; a++) {
    const bool in = top + a >= 0 && top + a < p.ih;
    s.line[a] = in ? x + (wrap(image * p.ih + top + a, p.in_rows) * p.iw + s.left) * p.c * 4
                   : reinterpret_cast<const char*>(p.zero);
    s.move[a] = in ? p.stride[1] * p.c * 4 : 0;
  }
  s.out = static_cast<char*>(bufs[irk::kDwOut]) + at;
  s.res = res ? res + at : nullptr;
  const int64_t n = (p.ow + fns.most - 1) / fns.most, width = p.ow / n, wide = p.ow - n * width;
  if (fns.fn[width] && (!wide || fns.fn[width + 1])) {
    if (wide) fns.fn[width + 1](p, s, 0, wide, v0, v1);
    fns.fn[width](p, s, wide * (width + 1), n - wide, v0, v1);
    return;
  }
  int64_t most = fns.most;
  for (int64_t j = 0, count; j < p.ow; j += count * most) {
    while (most > p.ow - j || !fns.fn[most]) most--;
    count = (p.ow - j) / most;
    fns.fn[most](p, s, j, count, v0, v1);
  }
}

inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

void run_strips(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const DwParams& p = *static_cast<const DwParams*>(params);
  const Strips* fns = choose(p);
  const int64_t whole = fns ? p.c / V::N : 0;
  run(p, begin, end, [&](int64_t image, int64_t first, int64_t last, int64_t v0, int64_t v1) {
    const int64_t mid = v1 < whole ? v1 : max64(v0, whole);
    for (int64_t i = first; i < last; i++) {
      if (v0 < mid) strips(p, *fns, bufs, image, i, v0, mid);
      if (mid < v1) row(p, bufs, image, i, mid, v1);
    }
  });
}

}  // namespace
