// The loops around a tile, the same for every ISA. Ops gives the element type of the scratch copy, copy and fill, and
// tile<M, NV>: M rows times NV vectors of columns.
#pragma once
#include "qconv/qconv.h"

namespace irk {
namespace {

struct QTile {
  const void* a;     // first row of the scratch copy
  const void* w;     // packed weights of this column tile
  const void* soon;  // weights worth fetching meanwhile, a cache line per step; readable
  const int32_t* bias;
  const float* m;
  const int8_t* res;  // residual at the first output, or null
  void* out;
  int64_t n;  // valid columns
};

// One output pixel whose window leaves the image sideways, or whose taps aren't contiguous.
template <class Ops>
void qconv_pack_row(const QConvParams& p, const int8_t* line, int64_t iw0, typename Ops::A* dst) {
  for (int64_t kw = 0; kw < p.kw; kw++, dst += p.icg) {
    const int64_t iw = iw0 + kw * p.dw;
    if (iw >= 0 && iw < p.iw)
      Ops::copy(dst, line + iw * p.ic, p.icg);
    else
      Ops::fill(dst, p.icg, p.zx);
  }
}

// Pixels [ow, ow + count) of one output row; image is the input image, oh the output row.
template <class Ops>
void qconv_pack_pixels(const QConvParams& p, const int8_t* image, int64_t oh, int64_t ow, int64_t count,
                       typename Ops::A* dst) {
  const int64_t run = p.kw * p.icg;
  for (int64_t i = 0; i < count; i++, ow++, dst += p.lda) {
    typename Ops::A* d = dst;
    const int64_t iw0 = ow * p.sw - p.pl;
    const bool whole = p.merge_kw && iw0 >= 0 && iw0 + (p.kw - 1) * p.dw < p.iw;
    for (int64_t kh = 0; kh < p.kh; kh++, d += run) {
      const int64_t ih = oh * p.sh - p.pt + kh * p.dh;
      if (ih < 0 || ih >= p.ih)
        Ops::fill(d, run, p.zx);
      else if (whole)
        Ops::copy(d, image + (ih * p.iw + iw0) * p.ic, run);
      else
        qconv_pack_row<Ops>(p, image + ih * p.iw * p.ic, iw0, d);
    }
  }
}

// The same for short contiguous runs (a first layer) of pixels whose windows lie inside sideways: a run is one load and
// one store, and kernel rows outside the image are read from a run of zero points.
constexpr int64_t kShortRun = 32;
constexpr int64_t kMostLines = 16;

template <class Ops>
void qconv_pack_short(const QConvParams& p, const int8_t* image, int64_t oh, int64_t ow, int64_t count,
                      typename Ops::A* dst) {
  int8_t outside[kShortRun];
  for (int64_t i = 0; i < kShortRun; i++) outside[i] = static_cast<int8_t>(p.zx);
  const int64_t run = p.kw * p.icg, step = p.sw * p.ic;
  const int8_t* line[kMostLines];
  int64_t move[kMostLines];
  for (int64_t kh = 0; kh < p.kh; kh++) {
    const int64_t ih = oh * p.sh - p.pt + kh * p.dh;
    const bool inside = ih >= 0 && ih < p.ih;
    line[kh] = inside ? image + (ih * p.iw + ow * p.sw - p.pl) * p.ic : outside;
    move[kh] = inside ? step : 0;
  }
  const typename Ops::Short copy(run);
  for (int64_t i = 0; i < count; i++, dst += p.lda) {
    typename Ops::A* d = dst;
    for (int64_t kh = 0; kh < p.kh; kh++, d += run) copy(d, line[kh] + i * move[kh]);
  }
}

template <class Ops>
void qconv_pack(const QConvParams& p, const int8_t* x, int64_t m0, int64_t m1, typename Ops::A* dst) {
  if (p.pointwise) {
    x += m0 * p.ic;
    if (p.ic == p.lda) {
      Ops::copy(dst, x, (m1 - m0) * p.ic);
      return;
    }
    for (int64_t m = m0; m < m1; m++, x += p.ic, dst += p.lda) Ops::copy(dst, x, p.icg);
    return;
  }
  int64_t ow = m0 % p.ow, oh = m0 / p.ow % p.oh;
  const int8_t* image = x + m0 / (p.ow * p.oh) * p.ih * p.iw * p.ic;
  const bool brief = p.merge_kw && p.kw * p.icg <= kShortRun && p.kh <= kMostLines;
  for (int64_t m = m0; m < m1;) {
    const int64_t stop = p.ow - ow < m1 - m ? p.ow : ow + m1 - m;  // of this output row
    const auto pixels = [&](int64_t end) {
      qconv_pack_pixels<Ops>(p, image, oh, ow, end - ow, dst);
      dst += (end - ow) * p.lda;
      ow = end;
    };
    m += stop - ow;
    if (brief) {
      if (ow < p.ow_first) pixels(stop < p.ow_first ? stop : p.ow_first);
      const int64_t last = stop < p.ow_last ? stop : p.ow_last;
      if (ow < last) {
        qconv_pack_short<Ops>(p, image, oh, ow, last - ow, dst);
        dst += (last - ow) * p.lda;
        ow = last;
      }
    }
    if (ow < stop) pixels(stop);
    if (ow == p.ow) {
      ow = 0;
      if (++oh == p.oh) {
        oh = 0;
        image += p.ih * p.iw * p.ic;
      }
    }
  }
}

// Copies runs of n elements, 1 <= n <= kShortRun, for Ops without a better way.
template <class Ops>
struct QPlainShort {
  int64_t n;
  explicit QPlainShort(int64_t count) : n(count) {}
  void operator()(typename Ops::A* dst, const int8_t* src) const { Ops::copy(dst, src, n); }
};

template <class Ops>
using QTileFn = void (*)(const QTile&, const QConvParams&);

template <class Ops, int NV, int M>
struct QTileTable {
  static void fill(QTileFn<Ops>* t) {
    t[M] = Ops::template tile<M, NV>;
    QTileTable<Ops, NV, M - 1>::fill(t);
  }
};
template <class Ops, int NV>
struct QTileTable<Ops, NV, 0> {
  static void fill(QTileFn<Ops>*) {}
};
template <class Ops, int NV>
struct QTileTables {
  static void fill(QTileFn<Ops> (*t)[Ops::MR + 1]) {
    QTileTable<Ops, NV, Ops::MR>::fill(t[NV]);
    QTileTables<Ops, NV - 1>::fill(t);
  }
};
template <class Ops>
struct QTileTables<Ops, 0> {
  static void fill(QTileFn<Ops> (*)[Ops::MR + 1]) {}
};

template <class Ops>
void qconv_run(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QConvParams& p = *static_cast<const QConvParams*>(params);
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  const int8_t* res = p.residual ? static_cast<const int8_t*>(bufs[4]) : nullptr;
  char* out = static_cast<char*>(bufs[5]);
  typename Ops::A* a = static_cast<typename Ops::A*>(bufs[6]);
  const int64_t osize = p.f32 ? 4 : 1;
  QTileFn<Ops> tiles[Ops::NV + 1][Ops::MR + 1];
  QTileTables<Ops, Ops::NV>::fill(tiles);
  int64_t packed = -1;
  for (int64_t item = begin; item < end; item++) {
    const int64_t nb = item % p.n_blocks, gm = item / p.n_blocks;
    const int64_t g = gm / p.m_blocks, m0 = gm % p.m_blocks * p.block_rows;
    const int64_t m1 = m0 + p.block_rows < p.pixels ? m0 + p.block_rows : p.pixels;
    if (packed != gm) {
      qconv_pack<Ops>(p, x + g * p.icg, m0, m1, a);
      packed = gm;
    }
    const int64_t t1 = (nb + 1) * p.block_tiles < p.tiles ? (nb + 1) * p.block_tiles : p.tiles;
    const int64_t count = (m1 - m0 + Ops::MR - 1) / Ops::MR;  // row tiles of nearly equal height
    for (int64_t t = nb * p.block_tiles; t < t1; t++) {
      QTile q;
      const int64_t c0 = g * p.ocg + t * p.nr;
      q.n = p.ocg - t * p.nr < p.nr ? p.ocg - t * p.nr : p.nr;
      q.w = p.w + g * p.group_bytes + t * p.tile_bytes;
      const uint8_t* next_w = p.w + g * p.group_bytes + (t + 1) * p.tile_bytes;
      q.bias = p.bias + (g * p.tiles + t) * p.nr;
      q.m = p.m + (g * p.tiles + t) * p.nr;
      QTileFn<Ops>* fns = tiles[(q.n + Ops::VEC - 1) / Ops::VEC];
      int64_t row = m0;
      for (int64_t i = 0; i < count; i++) {
        const int64_t next = m0 + (m1 - m0) * (i + 1) / count;
        q.a = a + (row - m0) * p.lda;
        // The next tile's weights, or a part that another row tile doesn't ask for, come from L3 or memory in large
        // layers.
        const int64_t ahead = i * p.steps * 64;
        q.soon = t + 1 < p.tiles && ahead + p.steps * 64 <= p.tile_bytes ? next_w + ahead : nullptr;
        q.res = res ? res + row * p.oc + c0 : nullptr;
        q.out = out + (row * p.oc + c0) * osize;
        fns[next - row](q, p);
        row = next;
      }
    }
  }
}

}  // namespace
}  // namespace irk
