// Sparse weights (CSR) times dense rows: 1x1 convolutions and linear layers with unstructured zeros.
//
// A work item is a block of up to `width` rows (pixels). Its inputs are transposed into scratch once, so that a weight
// meets a contiguous vector of pixels; then each output channel is acc = bias; acc = fma(x, w, acc) over its non-zeros
// in column order. Finished channels are transposed back, a vector of channels at a time, with the epilogue.
#pragma once
#include "base/act.h"
#include "base/types.h"

namespace irk {

constexpr int kSpmmMaxVec = 8;  // widest block in vectors

constexpr int64_t kSpmmSegment = 1 << 16;  // columns are counted from the beginning of a segment of so many

struct SpmmParams {
  int64_t m, k, o;
  int64_t width;   // floats between rows of the transposed block: vectors * lanes
  int64_t blocks;  // block b holds vectors [b * nvec / blocks, (b + 1) * nvec / blocks) of rows
  int64_t nvec;
  ActParams act;
  int64_t segments;         // of the columns: one but for very long rows
  const float* values;      // of the non-zeros, channel by channel
  const uint16_t* columns;  // of the weight, in its segment = row of the transposed block
  const int32_t* begin;     // [o * segments + 1], by channel and segment
  const float* bias;        // [o], zeros where absent
  const float* slope;       // [o rounded up to lanes] for Act::leaky
};

enum SpmmBuf {
  kSpmmX = 0,
  kSpmmValues,
  kSpmmColumns,
  kSpmmRows,
  kSpmmBias,
  kSpmmResidual,
  kSpmmSlope,
  kSpmmOut,
  kSpmmScratch
};

}  // namespace irk
