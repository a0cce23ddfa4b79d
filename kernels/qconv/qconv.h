// int8 convolution (and, as a 1x1 convolution over rows, int8 linear): parameters shared by prepare and the kernels.
//
// Work is a matrix product per group: rows are output pixels, columns output channels, depth the flattened taps
// (kh, kw, ic). A kernel copies a block of rows into its scratch in the form its multiply instruction wants
// (pixels of padding become the zero point), then walks the packed weights tile by tile. The copy touches each input
// byte once per block and keeps the inner loop free of bounds, padding and alignment questions.
//
// Zero point of the input: sum (x - zx) * w = sum x * w - zx * sum w, exact in int32, folded into the bias. Padding is
// the zero point, so the correction is the same for every pixel. Kernels that need unsigned bytes use x + 128 and the
// same trick.
#pragma once
#include "runtime/family.h"

namespace irk {

// The problem, checked by the caller against its tensors.
struct QConvShape {
  int64_t n = 1, ih = 1, iw = 1, ic = 0;  // input, channels last
  int64_t oh = 1, ow = 1, oc = 0;
  int64_t kh = 1, kw = 1, sh = 1, sw = 1, pt = 0, pl = 0, dh = 1, dw = 1, groups = 1;
  int64_t zx = 0, zy = 0, zr = 0, lo = -128, hi = 127;
  float mr = 0;  // multiplier of the residual
  bool residual = false;
  bool f32 = false;               // output float32: no zero point, no clamp
  const int8_t* w = nullptr;      // [oc][kh][kw][ic / groups]
  const int32_t* bias = nullptr;  // [oc] or null
  const float* m = nullptr;       // [oc]
};

struct QConvParams {
  int64_t ih, iw, ic, oh, ow, oc;
  int64_t kh, kw, sh, sw, pt, pl, dh, dw;
  int64_t groups, icg, ocg;
  int64_t ow_first, ow_last;             // windows of output columns [first, last) lie inside the image
  int64_t pixels;                        // rows of the product
  int64_t k;                             // depth
  int64_t lda;                           // elements between rows of the scratch copy
  int64_t steps;                         // depth in units of the kernel's k-unroll
  int64_t block_rows, m_blocks;          // rows per item
  int64_t tiles, block_tiles, n_blocks;  // column tiles per group, tiles per item
  int64_t tile_bytes, group_bytes;       // packed weights
  int64_t nr;
  const uint8_t* w;
  const int32_t* bias;  // tile order, nr entries per tile
  const float* m;       // tile order
  int32_t zx, zy, zr, lo, hi;
  float mr;
  bool pointwise;  // rows of the product are rows of the input
  bool merge_kw;   // the taps of one kernel row are contiguous in memory
  bool residual, f32;
  bool clamped;  // lo or hi cut something off the int8 range
  bool wide;     // scaled values may leave the int32 range: clamp before converting
};

// Largest |acc| * m + |r - zr| * mr over channels stays below this: then no clamp is needed before conversion.
constexpr double kQConvSafe = 2147480000.0;

// Packs and plans for the best row allowed by ctx.isa. bufs at run time: x, w, bias, m, residual, out, scratch.
Status qconv_build(StepContext& ctx, const QConvShape& s, bool linear, PreparedStep* out);

// Checks inputs 0 (x), 1 (w), 2 (bias), 3 (m), 4 (residual) and output 0 apart from their shapes, reads zx, zy, zr, mr,
// lo and hi.
Status qconv_read_common(StepContext& ctx, int rank, int w_rank, QConvShape* s);
// Reads strides, pads, dilation and groups, and checks them and all shapes of a convolution.
Status qconv_read_geometry(StepContext& ctx, QConvShape* s);
// Sums of a channel fit int32 and its multiplier is a sane number.
Status qconv_check_channel(const StepContext& ctx, int64_t channel, double most_sum, float m);

}  // namespace irk
