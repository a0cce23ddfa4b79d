// The kernel of few.h; an ISA file defines V and names its tile sizes.
#pragma once
#include "base/unroll.h"
#include "base/vmath.h"
#include "conv/conv.h"
#include "conv/few.h"

namespace {

using irk::FewParams;

// Odd multiples of the distance between windows, in bytes: an address takes any of them, also 2, 4 and 8 times.
struct Distances {
  int64_t odd[6];
};

template <int I>
IRK_INLINE float at(const char* s, const Distances& d) {
  constexpr int kScale = I % 8 == 0 ? 8 : I % 4 == 0 ? 4 : I % 2 == 0 ? 2 : 1;
  return *reinterpret_cast<const float*>(I == 0 ? s : s + d.odd[I / kScale / 2] * kScale);
}

// What a tile reads and writes: panel of NV vectors at column c0, n of whose columns are valid.
struct FewTile {
  const float* x;  // first window
  const float* w;
  float* y;
  int64_t res;  // residual - output in bytes, used if has_res
  bool has_res;
  int64_t c0, n;
};

// The activations that a clip can't express.
__attribute__((noinline)) void activate_few(const FewParams& p, const FewTile& t, int64_t cols) {
  const float* slope = p.slope ? p.slope + t.c0 : nullptr;
  for (int64_t i = 0; i < cols; i++) {
    float* y = t.y + i * p.oc;
    for (int64_t c = 0; c < t.n; c += V::N) {
      const int64_t left = t.n - c;
      V::F x = left < V::N ? V::load_n(y + c, left) : V::load(y + c);
      x = p.act.act == irk::Act::leaky ? irk::vmath::leaky<V>(x, V::load(slope + c)) : irk::vmath::hardswish<V>(x);
      if (left < V::N) {
        V::store_n(y + c, x, left);
      } else {
        V::store(y + c, x);
      }
    }
  }
}

template <int T, int NV>
void few_tile(const FewParams& p, const FewTile& t) {
  V::F acc[T][NV];
  IRK_UNROLL for (int j = 0; j < NV; j++) {
    const V::F b = V::load(p.bias + t.c0 + j * V::N);
    IRK_UNROLL for (int i = 0; i < T; i++) acc[i][j] = b;
  }
  Distances d;
  IRK_UNROLL for (int i = 0; i < 6; i++) {
    d.odd[i] = p.step * 4 * (2 * i + 1);
    asm("" : "+r"(d.odd[i]));
  }
  const float* w = t.w;
  const char* row = reinterpret_cast<const char*>(t.x);
  for (int64_t a = 0; a < p.kh; a++, row += p.dil_h * p.row * 4) {
    const char* s = row;
    for (int64_t k = p.run; k > 0; k--, s += 4, w += NV * V::N) {
      V::F b[NV];
      IRK_UNROLL for (int j = 0; j < NV; j++) b[j] = V::load(w + j * V::N);
      irk::unroll<T>([&](auto i) IRK_LAMBDA {
        const V::F x = V::set(at<i>(s, d));
        IRK_UNROLL for (int j = 0; j < NV; j++) acc[i][j] = V::fma(x, b[j], acc[i][j]);
      });
    }
  }
  const V::F lo = V::set(p.act.lo), hi = V::set(p.act.hi);
  const int64_t last = t.n - (NV - 1) * V::N;  // columns of the last vector
  float* y = t.y;
  IRK_UNROLL for (int i = 0; i < T; i++, y += p.oc) {
    const float* r = reinterpret_cast<const float*>(reinterpret_cast<const char*>(y) + t.res);
    IRK_UNROLL for (int j = 0; j < NV; j++) {
      const bool part = j == NV - 1 && last < V::N;
      V::F v = acc[i][j];
      if (t.has_res) v = V::add(v, part ? V::load_n(r + j * V::N, last) : V::load(r + j * V::N));
      v = irk::vmath::clip<V>(v, lo, hi);
      if (part) {
        V::store_n(y + j * V::N, v, last);
      } else {
        V::store(y + j * V::N, v);
      }
    }
  }
  if (p.act.act != irk::Act::clip) activate_few(p, t, T);
}

typedef void (*FewFn)(const FewParams&, const FewTile&);

// fn[vectors][columns]
struct FewTable {
  FewFn fn[irk::kFewMaxVec + 1][13];
  const int* most;
};

template <int NV, int T>
constexpr void fill_few(FewTable& t) {
  if constexpr (T > 0) {
    t.fn[NV][T] = few_tile<T, NV>;
    fill_few<NV, T - 1>(t);
  }
}

template <int T1, int T2, int T3, int T4>
constexpr FewTable few_table(const int* most) {
  FewTable t = {};
  t.most = most;
  fill_few<1, T1>(t);
  fill_few<2, T2>(t);
  fill_few<3, T3>(t);
  fill_few<4, T4>(t);
  return t;
}

inline void few_zeros(float* y, int64_t n) {
  int64_t i = 0;
  for (; i + V::N <= n; i += V::N) V::store(y + i, V::set(0.0f));
  if (i < n) V::store_n(y + i, V::set(0.0f), n - i);
}

inline void few_copy(const float* x, float* y, int64_t n) {
  int64_t i = 0;
  for (; i + V::N <= n; i += V::N) V::store(y + i, V::load(x + i));
  if (i < n) V::store_n(y + i, V::load_n(x + i, n - i), n - i);
}

// Input rows [top, top + count) of an image, with zeros around them.
void few_rows(const FewParams& p, const float* x, int64_t image, int64_t top, int64_t count, float* y) {
  const int64_t all = p.iw * p.ic, used = all < p.row - p.before ? all : p.row - p.before;
  for (int64_t i = top; i < top + count; i++, y += p.row) {
    if (i < 0 || i >= p.ih) {
      few_zeros(y, p.row);
      continue;
    }
    const int64_t at = image * p.ih + i;
    few_zeros(y, p.before);
    few_copy(x + (at < p.in_rows ? at : at % p.in_rows) * all, y + p.before, used);
    few_zeros(y + p.before + used, p.row - p.before - used);
  }
}

void run_few(const FewTable& fns, void* const* bufs, const FewParams& p, int64_t begin, int64_t end) {
  const float* x = static_cast<const float*>(bufs[irk::kConvX]);
  float* out = static_cast<float*>(bufs[irk::kConvOut]);
  float* rows = static_cast<float*>(bufs[irk::kConvScratch]);
  FewTile t;
  t.has_res = bufs[irk::kConvResidual] != nullptr;
  t.res = t.has_res ? static_cast<const char*>(bufs[irk::kConvResidual]) - static_cast<const char*>(bufs[irk::kConvOut])
                    : 0;
  for (int64_t item = begin; item < end; item++) {
    const int64_t band = item % p.bands, image = item / p.bands;
    const int64_t first = band * p.oh / p.bands, last = (band + 1) * p.oh / p.bands;
    few_rows(p, x, image, first * p.step_h - p.pad_h, (last - 1 - first) * p.step_h + (p.kh - 1) * p.dil_h + 1, rows);
    t.w = p.w;
    for (int64_t q = 0; q < p.panels; q++) {
      const int64_t v0 = q * p.nvec / p.panels, nv = (q + 1) * p.nvec / p.panels - v0;
      const int64_t most = fns.most[nv], n = (p.ow + most - 1) / most, width = p.ow / n, wide = p.ow - n * width;
      t.c0 = v0 * V::N;
      t.n = p.oc - t.c0 < nv * V::N ? p.oc - t.c0 : nv * V::N;
      for (int64_t i = first; i < last; i++) {
        const int64_t at = image * p.oh + i;
        t.x = rows + (i - first) * p.step_h * p.row;
        t.y = out + (at < p.out_rows ? at : at % p.out_rows) * p.ow * p.oc + t.c0;
        for (int64_t c = 0; c < n; c++) {
          const int64_t cols = width + (c < wide);
          fns.fn[nv][cols](p, t);
          t.x += cols * p.step;
          t.y += cols * p.oc;
        }
      }
      t.w += p.kh * p.run * nv * V::N;
    }
  }
}

}  // namespace
