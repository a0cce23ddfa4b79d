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
  int64_t left;  // columns of the row from y on
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
  if (t.has_res) {                             // all before the first store, as in broadcast.h
    const float* r = reinterpret_cast<const float*>(reinterpret_cast<const char*>(y) + t.res);
    IRK_UNROLL for (int i = 0; i < T; i++, r += p.oc) {
      IRK_UNROLL for (int j = 0; j < NV; j++) acc[i][j] =
          V::add(acc[i][j], j + 1 < NV ? V::load(r + j * V::N) : V::load_n(r + j * V::N, last));
    }
  }
  IRK_UNROLL for (int i = 0; i < T; i++, y += p.oc) {
    IRK_UNROLL for (int j = 0; j < NV; j++) {
      const V::F v = irk::vmath::clip<V>(acc[i][j], lo, hi);
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

// Inputs of the columns of a vector.
template <int Pack>
IRK_INLINE V::F spread(const float* x) {
#if defined(__AVX512F__)
  if constexpr (Pack == 2) {
    double both;
    __builtin_memcpy(&both, x, 8);
    return _mm512_castpd_ps(_mm512_set1_pd(both));
  }
#endif
  return V::set(*x);
}

#if defined(__AVX512F__)
// Clip and store of T pairs of columns, of which `left` columns are valid.
template <int T>
IRK_INLINE void finish_pairs(const FewParams& p, V::F lo, V::F hi, V::F (&acc)[T][1], float* y, int64_t left) {
  const __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
  IRK_UNROLL for (int i = 0; i < T; i++, y += 2 * p.oc) {
    const V::F v = _mm512_permutexvar_ps(order, irk::vmath::clip<V>(acc[i][0], lo, hi));
    if (p.oc == 8 && left > 2 * i + 1) {
      V::store(y, v);
    } else {
      V::store_n(y, v, p.oc);
      if (left > 2 * i + 1) V::store_n(y + p.oc, _mm512_shuffle_f32x4(v, v, 0x4e), p.oc);
    }
  }
}
#endif

// `count` times T vectors of columns of a row of a planar image.
template <int T, int NV, int Pack>
void planar_tiles(const FewParams& p, const FewTile& t, int64_t count) {
  const char* first = reinterpret_cast<const char*>(t.x);
  float* y = t.y;
  int64_t left = t.left;
  for (; count > 0; count--, first += T * Pack * 4, y += T * Pack * p.oc, left -= T * Pack) {
    const FewParams* own = &p;
    asm("" : "+r"(own));  // as above
    V::F acc[T][NV];
    IRK_UNROLL for (int j = 0; j < NV; j++) {
      const V::F b = V::load(own->bias + t.c0 + j * V::N);
      IRK_UNROLL for (int i = 0; i < T; i++) acc[i][j] = b;
    }
    const float* w = t.w;
    const int64_t* at = own->at;
    for (int64_t k = own->taps; k > 0; k--, at++, w += NV * V::N) {
      const float* s = reinterpret_cast<const float*>(first + *at);
      V::F b[NV];
      IRK_UNROLL for (int j = 0; j < NV; j++) b[j] = V::load(w + j * V::N);
      IRK_UNROLL for (int i = 0; i < T; i++) {
        const V::F x = spread<Pack>(s + i * Pack);
        IRK_UNROLL for (int j = 0; j < NV; j++) acc[i][j] = V::fma(x, b[j], acc[i][j]);
      }
    }
    const V::F lo = V::set(own->act.lo), hi = V::set(own->act.hi);
    if constexpr (Pack == 1) finish_few<T, NV>(p, t, lo, hi, acc, y);
#if defined(__AVX512F__)
    if constexpr (Pack == 2) finish_pairs<T>(p, lo, hi, acc, y, left);
#endif
  }
}

typedef void (*FewFn)(const FewParams&, const FewTile&, int64_t);

// fn[vectors][columns]
struct FewTable {
  FewFn fn[irk::kFewMaxVec + 1][irk::kPlanarMost + 1];
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

template <int NV, int Pack, int T>
constexpr void fill_planar(FewTable& t) {
  if constexpr (T > 0) {
    t.fn[NV][T] = planar_tiles<T, NV, Pack>;
    fill_planar<NV, Pack, T - 1>(t);
  }
}

template <int Pack, int T1, int T2, int T3, int T4>
constexpr FewTable planar_table(const int* most) {
  FewTable t = {};
  t.most = most;
  fill_planar<1, Pack, T1>(t);
  fill_planar<2, Pack, T2>(t);
  fill_planar<3, Pack, T3>(t);
  fill_planar<4, Pack, T4>(t);
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

// Zeros before and after a part's columns, at least a vector of them; columns that overlap them come later.
void part_ends(const FewParams& p, const irk::FewPart& q, float* y) {
  for (int64_t i = 0; i < q.before; i += V::N) V::store(y + i, V::set(0.0f));
  for (int64_t i = p.part; i > q.before + q.count; i -= V::N) V::store(y + i - V::N, V::set(0.0f));
}

// Elements of x by their columns' remainder by the stride, p.part floats each with zeros around them. Vectors at the
// end of a row overlap.
void planar_row(const FewParams& p, const float* x, float* y) {
  const int64_t n = p.iw / p.step_w;  // columns of every part, at least
  if (n < V::N || p.step_w > 2) {
    for (int64_t r = 0; r < p.step_w; r++, y += p.part) {
      const irk::FewPart& q = p.parts[r];
      for (int64_t i = 0; i < q.before; i++) y[i] = 0;
      for (int64_t i = 0; i < q.count; i++) y[q.before + i] = x[q.skip + i * p.step_w];
      for (int64_t i = q.before + q.count; i < p.part; i++) y[i] = 0;
    }
    return;
  }
  const irk::FewPart& q = p.parts[0];
  part_ends(p, q, y);
  if (p.step_w == 1) {
    float* d = y + q.before;
    for (int64_t i = 0; i < n - V::N; i += V::N) V::store(d + i, V::load(x + i));
    V::store(d + n - V::N, V::load(x + n - V::N));
    return;
  }
  const irk::FewPart& other = p.parts[1];
  part_ends(p, other, y + p.part);
  float *first = y + q.before, *second = y + p.part + other.before;
  float *even = q.skip ? second : first, *odd = q.skip ? first : second;
  const auto both = [&](int64_t i) {
    V::F a, b;
    V::split(x + 2 * i, a, b);
    V::store(even + i, a);
    V::store(odd + i, b);
  };
  for (int64_t i = 0; i < n - V::N; i += V::N) both(i);
  both(n - V::N);
  if (p.iw % 2) even[n] = x[2 * n];
}

// As few_rows(), of a planar image.
void planar_rows(const FewParams& p, const float* x, int64_t image, int64_t top, int64_t count, float* y) {
  for (int64_t i = top; i < top + count; i++, y += p.row) {
    if (i < 0 || i >= p.ih) {
      few_zeros(y, p.row);
      continue;
    }
    for (int64_t c = 0; c < p.ic; c++)
      planar_row(p, x + ((image * p.ic + c) * p.ih + i) * p.iw, y + c * p.step_w * p.part);
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
      (p.planar ? planar_rows : few_rows)(p, x, image, first * p.step_h - p.pad_h,
                                          (last - 1 - first) * p.step_h + (p.kh - 1) * p.dil_h + 1, rows);
    t.w = p.w;
    for (int64_t q = 0; q < p.panels; q++) {
      const int64_t v0 = q * p.nvec / p.panels, nv = (q + 1) * p.nvec / p.panels - v0;
      const int64_t most = fns.most[nv], all = (p.ow + p.pack - 1) / p.pack, n = (all + most - 1) / most;
      const int64_t width = all / n, wide = all - n * width;
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
        t.left = p.ow;
        auto part = [&](int64_t vectors, int64_t tiles) {
          fns.fn[nv][vectors](p, t, tiles);
          const int64_t cols = vectors * tiles * p.pack;
          if (p.act.act != irk::Act::clip) activate_few(p, t, cols < t.left ? cols : t.left);
          t.x += vectors * tiles * p.step;
          t.y += cols * p.oc;
          t.left -= cols;
        };
        if (wide) part(width + 1, wide);
        part(width, n - wide);
      }
      t.w += p.kh * p.run * nv * V::N;
    }
  }
}

}  // namespace
