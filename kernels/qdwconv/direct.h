// Depthwise 3x3 on NEON without scratch: output rows of a block of channels are made column by column, from left to
// right. The input columns of the window stay in registers, as do the weights.
//
// Rows of padding are read from a line of zero points as long as an image row; columns of padding are made in a
// register. So the loop over columns has no cases to tell apart.
#pragma once
#include "qconv/qconv.h"

namespace irk {

// What holds for a block of channels.
constexpr uint8_t kQDwScaled = 1;  // sums are small once scaled, see base/small_sum.h
constexpr uint8_t kQDwSmall = 2;   // and altogether
constexpr uint8_t kQDwThree = 4;   // and absolute weights of every kernel column add up to 255 or less

struct QDwDirect {
  int64_t ih, iw, c, oh, ow, pt, pl;
  int64_t band, bands;  // output rows per item; per image
  int64_t blocks;       // whole blocks of channels
  bool rest;            // channels beyond them: the item of the last block makes these too, in a block that overlaps it
  int64_t inner;        // output columns whose last input column lies inside the image
  const int8_t* line;   // zero points
  const int8_t* w;      // packed by block
  const int32_t* bias;  // [block][channel]; small_sum_bias in small blocks
  const float* m;       // [block][channel]
  const uint8_t* kinds;  // [block]
  int32_t stride, zx, zy, lo, hi;
};

// Bias, with the zero point of the input folded in, and multipliers of a block of channels. Returns kQDwScaled and
// kQDwSmall, where they hold.
uint8_t qdw_lanes(const QConvShape& s, int64_t c0, int64_t width, const double* sums, int32_t* bias, float* m);

// The layer prepared for the level; *out is null for layers that the direct kernels don't take. sums: the largest |sum|
// of each channel.
Status qdw_direct(StepContext& ctx, const QConvShape& s, Isa isa, const double* sums, const QDwDirect** out);

}  // namespace irk
