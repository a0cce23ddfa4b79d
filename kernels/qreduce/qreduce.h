// int8 mean over any axes: exact integer sums, one product, one rounding.
#pragma once
#include "base/types.h"

namespace irk {

constexpr int64_t kQreduceBlock = 256;

// Rows of n outputs; an item is one block of one row. Strides are those of the input, in elements.
struct QreduceParams {
  int rank;
  int64_t dims[kMaxRank], strides[kMaxRank];  // axes outside the rows
  int64_t n, step, blocks;                    // step: input stride between neighbours of a row
  int sum_rank;                               // axes summed over, outside the innermost one
  int64_t sum_dims[kMaxRank], sum_strides[kMaxRank];
  int64_t sum_n, sum_step;
  float m;
  int32_t bias;  // -zx * count
  int32_t zy;
};

}  // namespace irk
