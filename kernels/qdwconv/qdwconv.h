// int8 depthwise convolution, channels last, one output channel per input channel.
//
// A multiply-accumulate instruction of int8 sums several products per 32-bit lane, but depthwise sums run over taps,
// not channels. So a band of output rows is made in two stages. First, rows of input that lie under each other are
// interleaved, tap-group by tap-group, into scratch (L1): each lane then holds up to `depth` vertical taps of one
// channel. Second, every output is a sum over (row group, kernel column) of one load and one multiply-accumulate per
// vector. An interleaved column serves all kernel columns, and all output rows of the band: a row that starts lower
// just has other weights, with zeros for the rows it doesn't cover (3x3: two output rows from one group of four).
//
// Padding is the zero point, written by the first stage; the correction for it is folded into the bias (see qconv.h).
// Columns with a stride are kept in planes (column mod stride), so that neighbouring outputs read neighbouring columns.
#pragma once
#include "qconv/qconv.h"

namespace irk {

// A run of channels that fill a vector, alone or with those of several columns.
struct QDwBlock {
  int64_t c0, n;                 // channels
  int64_t width;                 // channels a vector column has room for
  int64_t plane, vector, group;  // bytes of the scratch: [group][vector][plane][column]
  int64_t w, lanes;              // offset of the weights in bytes; of bias and multipliers in elements
};

struct QDwDirect;
struct QDwTall;

struct QDwParams {
  int64_t ih, iw, c, oh, ow;
  int64_t kh, kw, sh, sw, pt, pl, dh, dw;
  int64_t band;      // output rows per band
  int64_t bands;     // per image
  int64_t groups;    // row groups per band
  int64_t row_step;  // input rows between the rows of a group
  int64_t taps;      // groups * kw
  int64_t chunk;     // output columns per pass
  int64_t blocks;
  bool across;  // items go through all blocks of a band before the next band; else through all bands of a block
  const QDwBlock* block;
  int64_t planes;          // of columns: stride, or less
  int64_t reach;           // columns of a plane that taps read beyond the first
  const int64_t* offsets;  // [block][tap]: of the first column that the tap reads
  const uint8_t* w;        // [block][row of band][tap][vector]
  const int32_t* bias;
  const float* m;
  int32_t zx, zy, zr, lo, hi;
  float mr;
  bool f32, residual, wide, clamped;
  QForm form;               // plain, or lifted
  const QDwDirect* direct;  // when one of these is there, nothing above counts
  const QDwTall* tall;
};

}  // namespace irk
