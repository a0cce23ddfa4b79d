// Float matrix products on channels-last data: convolution, linear and transposed convolution share this kernel.
//
// Work is a set of phases. A phase is a grid of output pixels that all see the same taps: a convolution has one, a
// transposed convolution one for each remainder of the output position by the stride. Grid pixel (i, j) reads input
// pixel (i * in_step[0] + dy[t], j * in_step[1] + dx[t]) for tap t and is output pixel (i * out_step[0] + oy,
// j * out_step[1] + ox). Taps outside the input read zeros. No im2col buffer: a work item makes a small table of row
// pointers, which serves all its output channels.
//
// Weights are packed as [group][panel][tap][ic][nv * lanes], a panel being nv vectors of output channels.
// Every output element is one chain acc = bias; acc = fma(x, w, acc) over taps, then input channels, both ascending:
// the bits depend neither on the ISA nor on the tiling nor on threads.
#pragma once
#include "base/act.h"
#include "base/types.h"

namespace irk {

constexpr int kConvMaxVec = 4;  // widest register tile, in vectors

// Register tile of an ISA: lanes of a vector, most rows for 1..4 vectors of columns (0: not used), how much slower than
// the others a tile of that width is, in percent (measured: weights near by, and from afar), and whether the tile can
// prefetch weights.
struct ConvTiles {
  int lanes;
  int rows[kConvMaxVec + 1];
  int slower[2][kConvMaxVec + 1];
  bool prefetch;
};
#if defined(__aarch64__)  // where every CPU has NEON, small code will do
constexpr ConvTiles kConvScalar = {1, {0, 4, 0, 0, 0}, {}, false};
#else
constexpr ConvTiles kConvScalar = {1, {0, 4, 4, 4, 4}, {}, false};
#endif
// Four vectors serve a single row, whose few chains of sums wait for themselves.
constexpr ConvTiles kConvAvx2 = {8, {0, 8, 6, 4, 1}, {{0, 5, 0, 3, 0}, {0, 5, 0, 3, 0}}, true};
constexpr ConvTiles kConvAvx512 = {16, {0, 14, 12, 9, 6}, {{0, 5, 3, 1, 0}, {0, 5, 2, 0, 2}}, true};
constexpr ConvTiles kConvNeon = {4, {0, 8, 8, 6, 5}, {}, false};

struct ConvPhase {
  int64_t grid_h, grid_w;  // pixels of one image in this phase
  int64_t oy, ox;          // first output pixel
  int64_t m;               // rows: images * grid_h * grid_w
  int64_t y0, y1, x0, x1;  // grid ranges in which no tap falls outside the input (may be empty)
  int64_t taps, nx;        // nx of them in a row of the window
  const int32_t *dy, *dx;  // input offset of each tap
  const int64_t* tap_off;  // the same in floats
  bool flat;               // one tap, stride 1: the rows of a work item are input pixels one after the other
  int64_t merge;           // > 1: so many consecutive taps are contiguous in memory where x is in [x0, x1)
  const float* w;          // packed weights
  int64_t first_item;
  int64_t mblocks;
};

struct FewParams;

struct ConvParams {
  const FewParams* few;     // null, or all else is unused: the kernel of few.h
  int64_t ih, iw, ic, icg;  // input; icg: channels of one group
  int64_t oh, ow, oc, ocg;  // output
  int64_t groups;
  int64_t in_rows, out_rows;  // image rows that the buffers hold; row r of all images is at r % rows (kernels/chain)
  int64_t in_step[2], out_step[2];
  ActParams act;
  const float* bias;   // [group][nvec * lanes], zeros where absent
  const float* slope;  // the same for Act::leaky
  const float* zero;   // zeros, as long as the longest run of a merged tap
  int64_t nvec;        // vectors of output channels of a group
  int64_t panels;      // of a group; panel p holds vectors [p * nvec / panels, (p + 1) * nvec / panels)
  int64_t nblocks;     // of a group; block b holds panels [b * panels / nblocks, ...)
  int max_rows;        // of the register tile of the widest panel
  bool prefetch;       // weights come from afar: fetch the next panel while one is in use
  bool fetch_out;      // outputs of one tap are fetched before they are written
  bool n_major;        // item order within a group: all row blocks of a column block first
  bool window;         // windows of few channels that reach beside the input are copied to scratch
  bool planar;         // the input is [image][channel][row][column]: all windows are copied
  int nphases;
  const ConvPhase* phases;
  int64_t max_taps;
  int64_t block_rows;  // most rows of a row block
};

// Entries of bufs; linear and transposed convolution have the same ones.
enum ConvBuf { kConvX = 0, kConvW, kConvBias, kConvResidual, kConvSlope, kConvOut, kConvScratch };

// Bytes of scratch: output pointers and tap pointers of one row block (whole tiles), and windows of `copied` floats.
inline int64_t conv_scratch(int64_t block_rows, int64_t max_rows, int64_t max_taps, int64_t copied) {
  return (block_rows + max_rows) * (max_taps + 1) * static_cast<int64_t>(sizeof(void*)) + block_rows * copied * 4 + 64;
}

}  // namespace irk
