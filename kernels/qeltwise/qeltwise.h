// Elementwise int8 kernels: quantize, dequantize, requantize, add and multiply with broadcasting.
#pragma once
#include "base/types.h"

namespace irk {

// The output is rows of n elements; an item is one block of one row. Strides are in elements, 0 along broadcast axes.
struct QeltwiseParams {
  int rank;  // axes outside the rows
  int64_t dims[kMaxRank], sa[kMaxRank], sb[kMaxRank];
  int64_t n, step_a, step_b;
  int64_t block, blocks;
  // quantize: 0, or the planes of an image, which become channels-last pixels; rows are then those of an image.
  int64_t planes;
  int n_in;
  // a: q - za times ma (quantize: x times ma), b likewise; sums are rounded, moved by zy and clamped to lo..hi.
  float ma, mb;
  int32_t za, zb, zy, lo, hi;
  // quantize and dequantize along an axis: one multiplier and zero point a row (row % channels) or a lane. Else null.
  const float* m;
  const int32_t* z;
  int64_t channels;
  bool per_lane;
};

constexpr int64_t kQeltwiseBlock = 1024;

}  // namespace irk
