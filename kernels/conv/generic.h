// The kernel of all ISAs; an ISA file defines V (a type of base/vec_<isa>.h), a template tile<rows, vectors> and names
// its tile sizes.
#pragma once
#include "conv/tile.h"

namespace {

using irk::ConvParams;
using irk::ConvPhase;

constexpr int64_t kAhead = 16 << 10;  // bytes ahead when a panel is used only once

// The activations that a clip can't express, over the finished columns of a tile (still in the first-level cache).
void activate(const ConvParams& p, const float* slope, float* const* out, int64_t col, int64_t rows, int64_t n) {
  for (int64_t i = 0; i < rows; i++) {
    float* y = out[i] + col;
    for (int64_t c = 0; c < n; c += V::N) {
      const int64_t left = n - c;
      V::F x = left < V::N ? V::load_n(y + c, left) : V::load(y + c);
      if (p.act.act == Act::leaky) {
        x = vmath::leaky<V>(x, V::load(slope + c));
      } else {
        x = vmath::hardswish<V>(x);
      }
      if (left < V::N) {
        V::store_n(y + c, x, left);
      } else {
        V::store(y + c, x);
      }
    }
  }
}

typedef void (*TileFn)(const Tile&);

struct RowTile {
  int64_t rows, taps, run;
  int64_t first;  // entry of the pointer table
};

// Place of a row in a buffer that holds `rows` of them.
inline int64_t wrap(int64_t row, int64_t rows) { return row < rows ? row : row % rows; }

// n floats, where no loop is worth the set-up of a vector loop.
inline void zeros(float* y, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    asm("");
    y[i] = 0;
  }
}
inline void copy(const float* x, float* y, int64_t n) {
  if (n >= 4) {
    for (int64_t i = 0; i < n - 4; i += 4) {
      asm("");
      __builtin_memcpy(y + i, x + i, 16);
    }
    __builtin_memcpy(y + n - 4, x + n - 4, 16);
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    asm("");
    y[i] = x[i];
  }
}

// The window whose first tap is at input pixel (y0, x0), b points there: ny * nx pixels of icg floats.
void gather(const ConvParams& p, int64_t ny, int64_t nx, int64_t dy, int64_t y0, int64_t x0, const float* b, float* d) {
  const int64_t run = nx * p.icg, step = dy * p.iw * p.ic;
  int64_t lo = x0 < 0 ? -x0 * p.icg : 0, hi = x0 + nx > p.iw ? (p.iw - x0) * p.icg : run;
  if (hi <= lo) lo = hi = run;
  for (int64_t i = 0; i < ny; i++, y0 += dy, b += step, d += run) {
    if (y0 < 0 || y0 >= p.ih) {
      zeros(d, run);
      continue;
    }
    if (lo) zeros(d, lo);
    copy(b + lo, d + lo, hi - lo);
    if (hi < run) zeros(d + hi, run - hi);
  }
}

// The same of a planar image.
IRK_NOINLINE void gather_planar(const ConvParams& p, int64_t ny, int64_t nx, int64_t dy, int64_t y0, int64_t x0,
                                const float* image, float* d) {
  for (int64_t i = 0; i < ny; i++, y0 += dy)
    for (int64_t x = x0; x < x0 + nx; x++)
      for (int64_t c = 0; c < p.icg; c++) {
        asm("");  // as in zeros()
        const bool in = y0 >= 0 && y0 < p.ih && x >= 0 && x < p.iw;
        *d++ = in ? image[(c * p.ih + y0) * p.iw + x] : 0.0f;
      }
}

// Row pointers of grid rows [m0, m0 + rows) of a phase: out[i] and table[t * rows + i]. Windows of few channels that
// reach beside the input are copied to `window`, as their taps would be too many to walk.
RowTile point(const ConvParams& p, const ConvPhase& ph, const float* x, float* y, int64_t m0, int64_t rows, float** out,
              const float** table, float* window) {
  const int64_t j0 = m0 % ph.grid_w, i0 = m0 / ph.grid_w % ph.grid_h, n0 = m0 / ph.grid_w / ph.grid_h;
  const int64_t x_step = p.in_step[1] * p.ic, y_step = p.out_step[1] * p.oc;
  const float* base[16];
  bool y_in = true, x_in = true;
  int64_t n = n0, i = i0, j = j0;
  for (int64_t r = 0; r < rows;) {  // a stretch of one grid row
    const int64_t stop = rows - r < ph.grid_w - j ? rows : r + ph.grid_w - j;
    y_in &= i >= ph.y0 && i < ph.y1;
    x_in &= j >= ph.x0 && j + (stop - r) <= ph.x1;
    const int64_t in_row = wrap(n * p.ih + i * p.in_step[0], p.in_rows);
    const int64_t out_row = wrap(n * p.oh + i * p.out_step[0] + ph.oy, p.out_rows);
    const float* b = x + (in_row * p.iw + j * p.in_step[1]) * p.ic;
    float* o = y + (out_row * p.ow + j * p.out_step[1] + ph.ox) * p.oc;
    for (; r < stop; r++, b += x_step, o += y_step) {
      base[r] = b;
      out[r] = o;
    }
    j = 0;
    if (++i == ph.grid_h) i = 0, n++;
  }
  const int64_t step = x_in ? ph.merge : 1;
  const float** q = table;
  if (y_in && x_in && !p.planar) {
    for (int64_t t = 0; t < ph.taps; t += step, q += rows) {
      const int64_t off = ph.tap_off[t];
      for (int64_t r = 0; r < rows; r++) q[r] = base[r] + off;
    }
    return {rows, ph.taps / step, p.icg * step, 0};
  }
  if (p.window) {
    const int64_t nx = ph.merge, ny = ph.taps / nx, dy = ny > 1 ? ph.dy[nx] - ph.dy[0] : 1, k = ph.taps * p.icg;
    n = n0, i = i0, j = j0;
    for (int64_t r = 0; r < rows; r++, window += k) {
      const int64_t top = i * p.in_step[0] + ph.dy[0], left = j * p.in_step[1] + ph.dx[0];
      if (p.planar) {
        gather_planar(p, ny, nx, dy, top, left, x + n * p.ic * p.ih * p.iw, window);
      } else {
        gather(p, ny, nx, dy, top, left, base[r] + ph.tap_off[0], window);
      }
      table[r] = window;
      if (++j == ph.grid_w) j = 0, n += i + 1 == ph.grid_h, i = i + 1 == ph.grid_h ? 0 : i + 1;
    }
    return {rows, 1, k, 0};
  }
  i = i0, j = j0;
  for (int64_t r = 0; r < rows; r++, q++) {
    const int64_t y0 = i * p.in_step[0], x0 = j * p.in_step[1];
    const float** d = q;
    for (int64_t t = 0; t < ph.taps;) {  // a row of taps
      const bool in = static_cast<uint64_t>(y0 + ph.dy[t]) < static_cast<uint64_t>(p.ih);
      for (const int64_t stop = t + ph.nx; t < stop; t += step, d += rows) {
        asm("");  // as in zeros()
        *d =
            in && static_cast<uint64_t>(x0 + ph.dx[t]) < static_cast<uint64_t>(p.iw) ? base[r] + ph.tap_off[t] : p.zero;
      }
    }
    if (++j == ph.grid_w) j = 0, i = i + 1 == ph.grid_h ? 0 : i + 1;
  }
  return {rows, ph.taps / step, p.icg * step, 0};
}

// The same where a row is one input pixel and all `rows` of them are at equal distances.
void line_up(const ConvParams& p, const ConvPhase& ph, const float* x, float* y, int64_t m0, int64_t rows, float** out,
             const float** table) {
  const int64_t i = m0 / ph.grid_w, j = m0 - i * ph.grid_w;
  x += (wrap(i, p.in_rows) * p.iw + j) * p.ic;
  y += (wrap(i, p.out_rows) * p.ow + j) * p.oc;
  for (int64_t r = 0; r < rows; r++) table[r] = x + r * p.ic;
  for (int64_t r = 0; r < rows; r++) out[r] = y + r * p.oc;
}

// Grid rows [m0, m1) of a phase times panels [p0, p1) of a group.
template <class Table>
void block(const ConvParams& p, const ConvPhase& ph, const Table& fns, void* const* bufs, int64_t g, int64_t m0,
           int64_t m1, int64_t p0, int64_t p1) {
  const float* x = static_cast<const float*>(bufs[irk::kConvX]) + g * p.icg;
  float* y = static_cast<float*>(bufs[irk::kConvOut]) + g * p.ocg;
  const char* res = static_cast<const char*>(bufs[irk::kConvResidual]);
  const int64_t res_off = res ? res - static_cast<const char*>(bufs[irk::kConvOut]) : 0;
  float** out = static_cast<float**>(bufs[irk::kConvScratch]);
  const float** table = const_cast<const float**>(out + p.block_rows + p.max_rows);
  float* window = reinterpret_cast<float*>(table + (p.block_rows + p.max_rows) * p.max_taps);
  const int64_t k = ph.taps * p.icg;
  const int64_t m = m1 - m0, tiles = (m + p.max_rows - 1) / p.max_rows;
  RowTile rt[64];
  const int64_t rows = m / tiles, more = m - tiles * rows;  // the last `more` tiles have a row more
  int64_t used = 0;
  if (ph.flat) line_up(p, ph, x, y, m0, m, out, table);
  for (int64_t t = 0, a = 0; t < tiles; t++) {
    const int64_t n = rows + (t >= tiles - more);
    if (ph.flat) {
      rt[t] = {n, 1, p.icg, a};
    } else {
      rt[t] = point(p, ph, x, y, m0 + a, n, out + a, table + used, window + a * k);
      rt[t].first = used;
      used += n * rt[t].taps;
    }
    a += n;
  }
  for (int64_t q = p0; q < p1; q++) {
    const int64_t v0 = q * p.nvec / p.panels, nv = (q + 1) * p.nvec / p.panels - v0, c0 = v0 * V::N;
    const int64_t left = p.ocg - c0, n = left < nv * V::N ? left : nv * V::N;
    Tile t;
    t.w = ph.w + (g * p.nvec + v0) * V::N * k;
    t.bias = p.bias + g * p.nvec * V::N + c0;
    t.res = res_off;
    t.has_res = res != nullptr;
    t.n = n;
    t.col = c0;
    if (kFetches) t.fetch = p.fetch_out;
    t.lo = p.act.lo;
    t.hi = p.act.hi;
    t.clips = p.act.lo != -__builtin_inff() || p.act.hi != __builtin_inff();
    // While the tiles of this panel are computed, the next one comes closer, an equal part with each tile.
    const int64_t panel = nv * V::N * k * 4, distance = tiles > 1 || panel < kAhead ? panel : kAhead;
    t.ahead_step = p.prefetch ? (nv * V::N * 4 + tiles - 1) / tiles : 0;
    float** o = out;
    for (int64_t r = 0; r < tiles; r++) {
      t.rows = table + rt[r].first;
      t.taps = rt[r].taps;
      t.run = rt[r].run;
      t.ahead = reinterpret_cast<const char*>(t.w) + distance + r * panel / tiles;
      t.out = o;
      fns.fn[nv][rt[r].rows](t);
      if (p.act.act != Act::clip)
        activate(p, p.slope ? p.slope + g * p.nvec * V::N + c0 : nullptr, o, c0, rt[r].rows, n);
      o += rt[r].rows;
    }
  }
}

template <class Table>
void run(const Table& fns, void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const ConvParams& p = *static_cast<const ConvParams*>(params);
  int f = 0;
  for (int64_t item = begin; item < end; item++) {
    while (f + 1 < p.nphases && item >= p.phases[f + 1].first_item) f++;
    const ConvPhase& ph = p.phases[f];
    const int64_t local = item - ph.first_item, per_group = ph.mblocks * p.nblocks;
    const int64_t g = local / per_group, r = local % per_group;
    const int64_t mb = p.n_major ? r % ph.mblocks : r / p.nblocks;
    const int64_t nb = p.n_major ? r / ph.mblocks : r % p.nblocks;
    block(p, ph, fns, bufs, g, mb * ph.m / ph.mblocks, (mb + 1) * ph.m / ph.mblocks, nb * p.panels / p.nblocks,
          (nb + 1) * p.panels / p.nblocks);
  }
}

// fn[nv][mr]: the tile kernels of an ISA with at most R1..R4 rows for 1..4 vectors of columns.
struct TileTable {
  TileFn fn[irk::kConvMaxVec + 1][17];
};

template <bool Far, int NV, int MR>
constexpr void fill_rows(TileTable& t) {
  if constexpr (MR > 0) {
    t.fn[NV][MR] = tile<MR, NV, Far>;
    fill_rows<Far, NV, MR - 1>(t);
  }
}

template <bool Far, int R1, int R2, int R3, int R4>
constexpr TileTable make_table() {
  TileTable t = {};
  fill_rows<Far, 1, R1>(t);
  fill_rows<Far, 2, R2>(t);
  fill_rows<Far, 3, R3>(t);
  fill_rows<Far, 4, R4>(t);
  return t;
}

}  // namespace
