// Strided copies: a list of regions that together write every element of the output once.
#pragma once
#include "base/types.h"

namespace irk {

enum class MoveKind : int {
  rows,       // the innermost axis is contiguous in source and destination
  strided,    // it is not (step, reversal, broadcast, one channel of many)
  transpose,  // it is contiguous in the destination, another axis in the source
};

// Axes `dims` are looped over, outermost first; strides and offsets are in elements. All has been checked: every index
// that a region forms lies within its source and the output.
struct MoveRegion {
  int src;  // input, or -1: the fill value (all source strides are 0)
  MoveKind kind;
  int rank;
  int64_t dims[kMaxRank], dst[kMaxRank], from[kMaxRank];
  int64_t dst_offset, from_offset;
  int64_t n, dst_step, from_step;  // innermost axis
  int64_t a, a_dst;                // transpose: the axis that is contiguous in the source, and its destination stride
  bool split_a;                    // transpose: blocks run along a, else along the innermost axis
  int64_t block, blocks;           // an item is one block of one outer index
  int64_t first, items;            // work items of this region
};

struct MoveParams {
  uint64_t fill;  // bits of the fill value, low bytes first
  int n_in;
  int count;
  const MoveRegion* regions;
};

}  // namespace irk
