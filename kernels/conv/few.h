// Convolution of few input channels (the first layer of a network) on x86.
//
// A window has few channels and is often beside the input. So a work item, a band of output rows, copies the input rows
// it needs to scratch, with zeros around them; in these rows each row of a window is one run of floats, and windows of
// neighbouring outputs are at equal distances. No table of pointers, no check in the loop. So is a 1x1 convolution of
// few channels, whose products are too few to make up for a table.
//
// A planar image [channel][row][column], as PyTorch's networks get it, is copied as it is, each row cut by the column's
// remainder by the stride (conv/few_rows.h): what neighbouring outputs multiply with a weight is then side by side.
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

// The same for planar images, where a column needs no distance; one vector may also hold two columns of 8 channels.
constexpr int kPlanarMost = 24;
constexpr int kPlanarAvx2[kFewMaxVec + 1] = {0, 12, 6, 4, 0};
constexpr int kPlanarAvx512[kFewMaxVec + 1] = {0, kPlanarMost, 14, 9, 6};

// The columns of a row that have one remainder by the stride: where they are in the image, and the zeros before them.
struct FewPart {
  int64_t skip, count, before;
};

struct FewParams {
  int64_t ih, iw, ic, oh, ow, oc;
  int64_t in_rows, out_rows;  // image rows that the buffers hold (kernels/chain)
  int64_t kh, run;            // rows of a window and their floats
  int64_t step_h, dil_h;      // in rows
  int64_t step;               // from a vector's window to the next one of a row, in floats
  int64_t pad_h, before;      // zeros above, in rows, and before each row, in floats
  int64_t row;                // floats of a row with its zeros
  bool in_place;              // windows of one row that are all inside the input: nothing is copied
  int pack;                   // columns in a vector: 2 where lane 2 c + i is channel c of column i, else 1
  bool planar;
  int64_t step_w;        // the rest is for planar images only
  const FewPart* parts;  // step_w of them
  int64_t part;          // floats of a row of one channel and one remainder, with its zeros
  int64_t taps;
  const int64_t* at;  // offset of each tap's first input in the copied rows, in bytes
  ActParams act;
  const float* w;      // [panel][kh][run][vectors of the panel * lanes]
  const float* bias;   // [nvec * lanes], zeros where absent
  const float* slope;  // the same for Act::leaky
  int64_t nvec;
  int64_t panels;  // panel q holds vectors [q * nvec / panels, (q + 1) * nvec / panels)
  int64_t bands;   // of the output rows of one image: an item each
};

}  // namespace irk
