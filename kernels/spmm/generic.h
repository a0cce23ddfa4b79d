// The kernel of all ISAs; an ISA file defines V, a type of base/vec_<isa>.h, and for more than one lane
//   V::F load4(const float* const* rows, int64_t c)   group g of four lanes holds rows[4 * g][c .. c + 3]
//   void transpose4(V::F a[4])                        4x4 transposition within each group of four lanes
#pragma once
#include "base/vmath.h"
#include "spmm/spmm.h"

namespace {

using irk::Act;
namespace vmath = irk::vmath;
using irk::SpmmParams;

#define IRK_UNROLL _Pragma("GCC unroll 16")

// dst[c * width + i] = rows[i][c] for V::N rows and `count` columns.
inline void transpose_in(const float* const* rows, int64_t count, float* dst, int64_t width) {
  int64_t c = 0;
#ifdef IRK_SPMM_QUADS
  for (; c + 4 <= count; c += 4) {
    V::F a[4];
    IRK_UNROLL for (int i = 0; i < 4; i++) a[i] = load4(rows + i, c);
    transpose4(a);
    IRK_UNROLL for (int i = 0; i < 4; i++) V::store(dst + (c + i) * width, a[i]);
  }
#endif
  for (; c < count; c++)
    for (int i = 0; i < V::N; i++) dst[c * width + i] = rows[i][c];
}

struct Out {
  float* y;
  const float* res;
  int64_t rows;  // rows of this block
};

inline void put(const SpmmParams& p, const Out& out, int64_t i, int64_t c, V::F x) {
  if (i >= out.rows) return;
  const int64_t n = p.o - c, at = i * p.o + c;
  if (out.res) x = V::add(x, n < V::N ? V::load_n(out.res + at, n) : V::load(out.res + at));
  if (p.act.act == Act::clip) {
    x = vmath::clip<V>(x, V::set(p.act.lo), V::set(p.act.hi));
  } else if (p.act.act == Act::leaky) {
    x = vmath::leaky<V>(x, V::load(p.slope + c));
  } else {
    x = vmath::hardswish<V>(x);
  }
  if (n < V::N) {
    V::store_n(out.y + at, x, n);
  } else {
    V::store(out.y + at, x);
  }
}

// tile[l * width + i] is channel c + l of row i; writes all rows of the block.
inline void transpose_out(const SpmmParams& p, const Out& out, const float* tile, int64_t c) {
#ifdef IRK_SPMM_QUADS
  const float* lanes[V::N];
  for (int l = 0; l < V::N; l++) lanes[l] = tile + l * p.width;
  for (int64_t i = 0; i < out.rows; i += 4) {
    V::F a[4];
    IRK_UNROLL for (int l = 0; l < 4; l++) a[l] = load4(lanes + l, i);
    transpose4(a);
    IRK_UNROLL for (int l = 0; l < 4; l++) put(p, out, i + l, c, a[l]);
  }
#else
  for (int64_t i = 0; i < out.rows; i++) put(p, out, i, c, V::load(tile + i));
#endif
}

template <int NV>
void channel(const SpmmParams& p, const float* x, int64_t c, float* tile) {
  V::F acc[NV];
  const V::F b = V::set(p.bias[c]);
  IRK_UNROLL for (int j = 0; j < NV; j++) acc[j] = b;
  const int64_t width = p.width;
  const float* const values = p.values;
  const uint16_t* const columns = p.columns;
  const int32_t* begin = p.begin + c * p.segments;
  for (int64_t s = 0; s < p.segments; s++, begin++, x += irk::kSpmmSegment * width) {
    for (int64_t i = begin[0], end = begin[1]; i < end; i++) {
      const V::F v = V::set(values[i]);
      const float* row = x + columns[i] * width;
      IRK_UNROLL for (int j = 0; j < NV; j++) acc[j] = V::fma(V::load(row + j * V::N), v, acc[j]);
    }
  }
  IRK_UNROLL for (int j = 0; j < NV; j++) V::store(tile + j * V::N, acc[j]);
}

template <int NV>
void block(const SpmmParams& p, void* const* bufs, int64_t first) {
  float* x = static_cast<float*>(bufs[irk::kSpmmScratch]);
  float* tile = x + p.k * p.width;
  const float* in = static_cast<const float*>(bufs[irk::kSpmmX]);
  const int64_t rows = p.m - first < NV * V::N ? p.m - first : NV * V::N;
  for (int64_t j = 0; j < NV; j++) {
    const float* ptr[V::N];
    for (int64_t i = 0; i < V::N; i++) {
      const int64_t r = j * V::N + i;
      ptr[i] = in + (first + (r < rows ? r : rows - 1)) * p.k;  // lanes past the end repeat the last row
    }
    transpose_in(ptr, p.k, x + j * V::N, p.width);
  }
  const float* res = static_cast<const float*>(bufs[irk::kSpmmResidual]);
  const Out out = {static_cast<float*>(bufs[irk::kSpmmOut]) + first * p.o, res ? res + first * p.o : nullptr, rows};
  for (int64_t c = 0; c < p.o; c += V::N) {
    const int64_t n = p.o - c < V::N ? p.o - c : V::N;
    for (int64_t l = 0; l < n; l++) channel<NV>(p, x, c + l, tile + l * p.width);
    transpose_out(p, out, tile, c);
  }
}

void run(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  typedef void (*BlockFn)(const SpmmParams&, void* const*, int64_t);
  constexpr BlockFn kBlocks[] = {nullptr,  block<1>, block<2>, block<3>, block<4>,
                                 block<5>, block<6>, block<7>, block<8>};
  const SpmmParams& p = *static_cast<const SpmmParams*>(params);
  for (int64_t b = begin; b < end; b++) {
    const int64_t v0 = b * p.nvec / p.blocks, v1 = (b + 1) * p.nvec / p.blocks;
    kBlocks[v1 - v0](p, bufs, v0 * V::N);
  }
}

}  // namespace
