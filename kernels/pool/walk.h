// The walk over output pixels, shared by pool and qpool.
#pragma once
#include "pool/windows.h"

namespace {

// f(first tap as element offset, row window, column window, output offset, lanes) per work item.
template <class Fn>
void each_pixel(const irk::PoolShape& s, int64_t block_size, int64_t begin, int64_t end, Fn f) {
  const int64_t blocks = (s.inner + block_size - 1) / block_size;
  int64_t block = begin % blocks, pixel = begin / blocks;
  int64_t ow = pixel % s.ow, oh = pixel / s.ow % s.oh, outer = pixel / s.ow / s.oh;
  for (int64_t item = begin; item < end; item++) {
    const irk::PoolWindow &r = s.rows[oh], &c = s.cols[ow];
    const int64_t lane = block * block_size, n = s.inner - lane < block_size ? s.inner - lane : block_size;
    f(((outer * s.h + r.first) * s.w + c.first) * s.inner + lane, r, c, pixel * s.inner + lane, n);
    if (++block < blocks) continue;
    block = 0;
    pixel++;
    if (++ow < s.ow) continue;
    ow = 0;
    if (++oh < s.oh) continue;
    oh = 0;
    outer++;
  }
}

}  // namespace
