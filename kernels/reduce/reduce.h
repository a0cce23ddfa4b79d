// Reductions: the input's axes, in memory order, are collapsed to kept and reduced dimensions.
#pragma once
#include <stdint.h>

namespace irk {
namespace reduce {

constexpr int kMaxDims = 4;      // kept or reduced dimensions of a rank-8 tensor that alternate
constexpr int64_t kBlock = 128;  // innermost dimension kept: neighbours of one work item
constexpr int64_t kChunk = 64;   // rows, or blocks of 64 elements, added up before joining the grand total
constexpr int64_t kShort = 32;   // fewer elements than this are reduced one after another

enum Op : int32_t { sum, mean, max, min };

struct Params {
  int32_t op, dtype;
  int32_t n_kept, n_red;  // outer dimensions of each kind, without the inner one
  int32_t inner_kept;     // the innermost dimension is kept
  int64_t kept_dim[kMaxDims], kept_stride[kMaxDims];
  int64_t red_dim[kMaxDims], red_stride[kMaxDims];
  int64_t inner;      // innermost dimension
  int64_t red_count;  // product of red_dim
  int64_t blocks;     // work items per outer kept index
  float count;        // elements behind one result
};

}  // namespace reduce
}  // namespace irk
