// Convolution of few input channels (the first layer of a network) on x86.
//
// A window has few channels and is often beside the input. So a work item, a band of output rows, copies the input rows
// it needs to scratch, with zeros around them; in these rows each row of a window is one run of floats, and windows of
// neighbouring outputs are at equal distances. No table of pointers, no check in the loop. So is a 1x1 convolution of
// few channels, whose products are too few to make up for a table.
//
// Every output element is the chain of conv.h: taps, then channels, both ascending; taps outside multiply zeros.
#pragma once
#include "base/act.h"
#include "base/types.h"

namespace irk {

constexpr int kFewMaxVec = 4;

// Most output columns of a register tile of 1..4 vectors of channels.
constexpr int kFewAvx2[kFewMaxVec + 1] = {0, 12, 6, 4, 0};
constexpr int kFewAvx512[kFewMaxVec + 1] = {0, 12, 12, 8, 6};

struct FewParams {
  int64_t ih, iw, ic, oh, ow, oc;
  int64_t in_rows, out_rows;  // image rows that the buffers hold (kernels/chain)
  int64_t kh, run;            // rows of a window and their floats
  int64_t step_h, dil_h;      // in rows
  int64_t step;               // from a window to the next one of a row, in floats
  int64_t pad_h, before;      // zeros above, in rows, and before each row, in floats
  int64_t row;                // floats of a row with its zeros
  bool in_place;              // windows of one row that are all inside the input: nothing is copied
  ActParams act;
  const float* w;      // [panel][kh][run][vectors of the panel * lanes]
  const float* bias;   // [nvec * lanes], zeros where absent
  const float* slope;  // the same for Act::leaky
  int64_t nvec;
  int64_t panels;  // panel q holds vectors [q * nvec / panels, (q + 1) * nvec / panels)
  int64_t bands;   // of the output rows of one image: an item each
};

}  // namespace irk
