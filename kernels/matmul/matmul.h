// Batched matrix product c[m, n] = sum over k of a[m, k] b[k, n], operands by strides.
#pragma once
#include <stdint.h>

namespace irk {
namespace matmul {

constexpr int kMaxBatch = 6;

struct Params {
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col;  // strides in elements
  int32_t n_batch;
  int64_t batch[kMaxBatch], a_batch[kMaxBatch], b_batch[kMaxBatch];
  int64_t panels, blocks, block_rows;  // per batch index: column panels, and row blocks of each
};

}  // namespace matmul
}  // namespace irk
