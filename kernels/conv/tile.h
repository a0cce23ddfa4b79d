// What the driver (generic.h) asks of a register tile of the convolution.
#pragma once
#include "base/vmath.h"
#include "conv/conv.h"

namespace {

using irk::Act;
namespace vmath = irk::vmath;

#define IRK_UNROLL _Pragma("GCC unroll 32")

// One register tile: rows[t * MR + i] points to the run of inputs of row i at tap t.
struct Tile {
  const float* const* rows;
  int64_t taps, run;
  const float* w;
  const float* bias;
  float* const* out;  // one pointer a row, at column 0
  int64_t col, n;     // first column and number of valid ones
  int64_t res;        // residual - output in bytes, used if has_res
  bool has_res, clips;
  bool fetch;  // outputs and residual are far: they come closer meanwhile
  float lo, hi;
  const char* ahead;   // weights to come, which the tile fetches to the second-level cache:
  int64_t ahead_step;  // `ahead_step` bytes with every step of a run
};

}  // namespace
