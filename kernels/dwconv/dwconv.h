// Float depthwise convolution on channels-last data: vectors over channels, a few output columns at a time in
// registers.
//
// A work item is a band of output rows times a block of channels. Every output element is one chain acc = bias;
// acc = fma(x, w, acc) over taps in order; taps outside the input multiply zeros. Weights are packed as [vector of
// channels][tap][lane].
#pragma once
#include "base/act.h"
#include "base/types.h"

namespace irk {

constexpr int kDwCols = 4;  // output columns of a register tile of generic.h

struct DwParams {
  int64_t ih, iw, oh, ow, c;
  int64_t in_rows, out_rows;  // image rows that the buffers hold; row r of all images is at r % rows (kernels/chain)
  int64_t kh, kw;
  int64_t stride[2], dilation[2], pad[2];
  int64_t span;  // input columns of the ISA's widest tile: (columns - 1) * stride + (kw - 1) * dilation + 1
  ActParams act;
  const float* w;
  const float* bias;   // [vectors * lanes], zeros where absent
  const float* slope;  // the same for Act::leaky
  const float* zero;   // span * c zeros: a row outside the input
  bool memory_order;   // x86: all channels of a few columns, then the next columns
  int64_t bands;       // of one image
  int64_t cblocks;     // block b holds vectors [b * nvec / cblocks, (b + 1) * nvec / cblocks)
  int64_t nvec;
};

enum DwBuf { kDwX = 0, kDwW, kDwBias, kDwResidual, kDwSlope, kDwOut, kDwScratch };

}  // namespace irk
