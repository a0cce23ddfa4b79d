// Every element of c is one chain acc = fma(a[m, k], b[k, n], acc) from 0 with k rising, whatever the register tile:
// the bits are those of the scalar loop. V is one of base/vec_<isa>.h; a tile is MR rows by NV vectors, Tiles::multiply
// adds its products.
#pragma once
#include "base/loops.h"
#include "matmul/matmul.h"

namespace irk {
namespace {
namespace matmul_impl {

using matmul::Params;

// A panel of b as k rows of W contiguous floats: `width` columns of b, then zeros as far as `padded`.
template <class V, int W>
void pack(const float* b, int64_t row, int64_t col, int64_t k, int64_t width, int64_t padded, float* out) {
  if (col == 1) {
    for (int64_t i = 0; i < k; ++i, b += row, out += W) {
      int64_t c = 0;
      for (; c < width; ++c) out[c] = b[c];
      for (; c < padded; ++c) out[c] = 0.0f;
    }
    return;
  }
  for (int64_t i0 = 0; i0 < k; i0 += 16) {  // 16 rows at a time: one cache line of every column of a transposed b
    const int64_t rows = k - i0 < 16 ? k - i0 : 16;
    const float* from = b + i0 * row;
    float* to = out + i0 * W;
    int64_t c = 0;
    if (row == 1 && rows == 16) {
      for (; c + 4 <= width; c += 4) {
        for (int64_t i = 0; i < 16; i += 4) V::transpose4(from + i + c * col, col, to + i * W + c, W);
      }
    }
    for (; c < padded; ++c) {
      for (int64_t i = 0; i < rows; ++i) to[i * W + c] = c < width ? from[i * row + c * col] : 0.0f;
    }
  }
}

// acc += a b for R rows of a and NV vectors of columns; b has `step` floats from row to row.
struct Broadcast {
  template <class V, int R, int NV>
  static IRK_INLINE void multiply(const Params& p, const float* const* a, const float* b, int64_t step,
                                  typename V::F (&acc)[R][NV]) {
    for (int64_t k = 0; k < p.k; ++k, b += step) {
      typename V::F y[NV];
      for (int v = 0; v < NV; ++v) y[v] = V::load(b + v * V::N);
      for (int r = 0; r < R; ++r) {
        const typename V::F x = V::set(a[r][k * p.a_col]);
        for (int v = 0; v < NV; ++v) acc[r][v] = V::fma(x, y[v], acc[r][v]);
      }
    }
  }
};

// R x NV vectors of c; b is a panel with `step` floats from row to row, `width` columns count.
template <class V, class Tiles, int R, int NV>
void tile(const Params& p, const float* a, const float* b, int64_t step, float* c, int64_t width) {
  typename V::F acc[R][NV];
  const float* row[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    row[r] = a + r * p.a_row;
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = V::set(0.0f);
  }
  Tiles::template multiply<V, R, NV>(p, row, b, step, acc);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    float* out = c + r * p.n;
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      const int64_t left = width - v * V::N;
      if (left >= V::N) {
        V::store(out + v * V::N, acc[r][v]);
      } else if (left > 0) {
        V::store_n(out + v * V::N, acc[r][v], left);
      }
    }
  }
}

template <class V, class Tiles, int R, int NV>
void rows(const Params& p, const float* a, const float* b, int64_t step, float* c, int64_t width, int64_t m) {
  int64_t i = 0;
  for (; i + R <= m; i += R) tile<V, Tiles, R, NV>(p, a + i * p.a_row, b, step, c + i * p.n, width);
  if constexpr (R > 1) {
    if (i < m) rows<V, Tiles, R / 2, NV>(p, a + i * p.a_row, b, step, c + i * p.n, width, m - i);
  }
}

// As few vectors as the panel's columns need.
template <class V, class Tiles, int MR, int NV>
void panel_rows(const Params& p, const float* a, const float* b, int64_t step, float* c, int64_t width, int64_t m) {
  if constexpr (NV > 1) {
    if (width <= (NV - 1) * V::N) return panel_rows<V, Tiles, MR, NV - 1>(p, a, b, step, c, width, m);
  }
  rows<V, Tiles, MR, NV>(p, a, b, step, c, width, m);
}

template <class V, int MR, int NV, class Tiles = Broadcast>
void run(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  constexpr int W = NV * V::N;
  const Params& p = *static_cast<const Params*>(params);
  float* scratch = static_cast<float*>(bufs[3]);
  const float* packed = nullptr;  // the panel that scratch holds
  for (int64_t item = begin; item < end; ++item) {
    const int64_t block = item % p.blocks, panel = item / p.blocks % p.panels, index = item / (p.blocks * p.panels);
    const float* a = static_cast<const float*>(bufs[0]) + block * p.block_rows * p.a_row;
    const float* b = static_cast<const float*>(bufs[1]) + panel * W * p.b_col;
    int64_t rest = index;
    for (int d = p.n_batch - 1; d >= 0; --d) {
      const int64_t i = rest % p.batch[d];
      rest /= p.batch[d];
      a += i * p.a_batch[d];
      b += i * p.b_batch[d];
    }
    const int64_t left_cols = p.n - panel * W, width = left_cols < W ? left_cols : W;
    const int64_t left_rows = p.m - block * p.block_rows, m = left_rows < p.block_rows ? left_rows : p.block_rows;
    float* c = static_cast<float*>(bufs[2]) + (index * p.m + block * p.block_rows) * p.n + panel * W;
    if (p.b_col == 1 && width == W && p.m <= 2 * MR) {  // read too few times to be worth a copy
      rows<V, Tiles, MR, NV>(p, a, b, p.b_row, c, width, m);
      continue;
    }
    if (packed != b) {
      pack<V, W>(b, p.b_row, p.b_col, p.k, width, (width + V::N - 1) / V::N * V::N, scratch);
      packed = b;
    }
    panel_rows<V, Tiles, MR, NV>(p, a, scratch, W, c, width, m);
  }
}

}  // namespace matmul_impl
}  // namespace
}  // namespace irk
