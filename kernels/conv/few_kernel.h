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

// What tiles read and write: a panel of vectors at column c0, n of whose columns are valid.
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

// Residual, clip and store of T columns.
template <int T, int NV>
IRK_INLINE void finish_few(const FewParams& p, const FewTile& t, V::F lo, V::F hi, V::F (&acc)[T][NV], float* y) {
  if (!t.has_res && t.n == NV * V::N) {
    IRK_UNROLL for (int i = 0; i < T; i++, y += p.oc) {
      IRK_UNROLL for (int j = 0; j < NV; j++) V::store(y + j * V::N, irk::vmath::clip<V>(acc[i][j], lo, hi));
    }
    return;
  }
  const int64_t last = t.n - (NV - 1) * V::N;  // columns of the last vector
  IRK_UNROLL for (int i = 0; i < T; i++, y += p.oc) {
    const float* r = reinterpret_cast<const float*>(reinterpret_cast<const char*>(y) + t.res);
    IRK_UNROLL for (int j = 0; j < NV; j++) {
      V::F v = acc[i][j];
      if (t.has_res) v = V::add(v, j + 1 < NV ? V::load(r + j * V::N) : V::load_n(r + j * V::N, last));
      v = irk::vmath::clip<V>(v, lo, hi);
      if (j + 1 < NV) {
        V::store(y + j * V::N, v);
      } else {
        V::store_n(y + j * V::N, v, last);
      }
    }
  }
}

// `count` times T columns of a row.
template <int T, int NV>
void few_tiles(const FewParams& p, const FewTile& t, int64_t count) {
  Distances d;
  IRK_UNROLL for (int i = 0; i < 6; i++) {
    d.odd[i] = p.step * 4 * (2 * i + 1);
    asm("" : "+r"(d.odd[i]));
  }
  const char* first = reinterpret_cast<const char*>(t.x);
  float* y = t.y;
  for (; count > 0; count--, first += T * p.step * 4, y += T * p.oc) {
    const FewParams* own = &p;
    asm("" : "+r"(own));  // what is used once a tile is loaded then: registers are for the loop
    V::F acc[T][NV];
    IRK_UNROLL for (int j = 0; j < NV; j++) {
      const V::F b = V::load(own->bias + t.c0 + j * V::N);
      IRK_UNROLL for (int i = 0; i < T; i++) acc[i][j] = b;
    }
    const float* w = t.w;
    const char* row = first;
    for (int64_t a = p.kh; a > 0; a--, row += p.dil_h * p.row * 4) {
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
    finish_few<T, NV>(p, t, V::set(own->act.lo), V::set(own->act.hi), acc, y);
  }
}

typedef void (*FewFn)(const FewParams&, const FewTile&, int64_t);

// fn[vectors][columns]
struct FewTable {
  FewFn fn[irk::kFewMaxVec + 1][13];
  const int* most;
};

template <int NV, int T>
constexpr void fill_few(FewTable& t) {
  if constexpr (T > 0) {
    t.fn[NV][T] = few_tiles<T, NV>;
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
    if (!p.in_place)
      few_rows(p, x, image, first * p.step_h - p.pad_h, (last - 1 - first) * p.step_h + (p.kh - 1) * p.dil_h + 1, rows);
    t.w = p.w;
    for (int64_t q = 0; q < p.panels; q++) {
      const int64_t v0 = q * p.nvec / p.panels, nv = (q + 1) * p.nvec / p.panels - v0;
      const int64_t most = fns.most[nv], n = (p.ow + most - 1) / most, width = p.ow / n, wide = p.ow - n * width;
      t.c0 = v0 * V::N;
      t.n = p.oc - t.c0 < nv * V::N ? p.oc - t.c0 : nv * V::N;
      for (int64_t i = first; i < last; i++) {
        const int64_t at = image * p.oh + i;
        if (p.in_place) {
          const int64_t from = image * p.ih + i * p.step_h;
          t.x = x + (from < p.in_rows ? from : from % p.in_rows) * p.iw * p.ic;
        } else {
          t.x = rows + (i - first) * p.step_h * p.row;
        }
        t.y = out + (at < p.out_rows ? at : at % p.out_rows) * p.ow * p.oc + t.c0;
        auto part = [&](int64_t cols, int64_t tiles) {
          fns.fn[nv][cols](p, t, tiles);
          if (p.act.act != irk::Act::clip) activate_few(p, t, cols * tiles);
          t.x += cols * tiles * p.step;
          t.y += cols * tiles * p.oc;
        };
        if (wide) part(width + 1, wide);
        part(width, n - wide);
      }
      t.w += p.kh * p.run * nv * V::N;
    }
  }
}

}  // namespace
