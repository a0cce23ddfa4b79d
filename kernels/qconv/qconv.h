// int8 convolution (and, as a 1x1 convolution over rows, int8 linear): parameters shared by prepare and the kernels.
//
// Work is a matrix product per group: rows are output pixels, columns output channels, depth the flattened taps
// (kh, kw, ic). Three drivers walk the packed weights tile by tile:
//  generic.h  copies a block of rows into scratch in the form the multiply instruction wants (pixels of padding become
//             the zero point). The copy touches each input byte once per block and keeps the inner loop free of bounds,
//             padding and alignment questions.
//  rows.h     hands the kernel a pointer per row of the product, into the input itself where that is possible.
//  amx_rows.h gives tiles of rows that lie equally far apart: see QTilePlan.
//  amx_sliced.h copies few rows tile by tile, slice by slice of the depth, where the weights are large.
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
  int64_t band = 0;               // for a chain: output rows per item, which then has all channels
  bool f32 = false;               // output float32: no zero point, no clamp
  const int8_t* w = nullptr;      // [oc][kh][kw][ic / groups]
  const int32_t* bias = nullptr;  // [oc] or null
  const float* m = nullptr;       // [oc]
};

// How rows.h finds the bytes of a row of the product. A row is `segs` contiguous runs of `run` bytes; the runs of all
// rows lie at the same distances from their row's first byte. Kernels read whole vectors of 16 bytes: a run is a
// multiple of that unless it is the only one.
struct QRows {
  int64_t segs, run;
  const int64_t* seg;      // [segs], bytes from the row's first
  bool flat;               // rows lie ic bytes apart throughout the input: a block may begin at any row
  bool lines;              // a block's input lines are copied to the scratch with their padding
  bool gather;             // runs too short to be read in place: rows are made contiguous in the scratch, ...
  int64_t parts, part;     // ... each of this many runs of this many bytes
  const int64_t* part_at;  // [parts]
  int64_t lda;             // bytes between gathered rows
  int64_t block_lines;     // output lines per block, unless flat
  int64_t image_blocks;    // blocks per image, unless flat
  int64_t pitch, cols;     // of the lines that are read: bytes from one to the next, columns
  int64_t in_bytes;        // of the whole input
  int64_t at_lines, at_rows, at_panels;  // offsets in the scratch: lines, gathered rows, what the kernel makes of them
};

constexpr int kFewSteps = 8;

// How the AVX-512 kernels turn sums into bytes.
enum class QForm : uint8_t {
  plain,
  low,    // the output's zero point is -128 and the only clamp that of bytes: unsigned saturation does it
  lifted  // low, and without a residual: sums are float bits, see kQConvLift; with one: its zero point is -128, too
};

// Sums of less than 2^23 that start from these bits of 2^23 are, read as floats, 2^23 + sum when not negative. Then
// fma(float, m, -2^23 * m) is sum * m rounded once, 2^23 * m being exact. Negative sums read as 2^23 + sum / 2: what
// becomes of them isn't positive either, which is the same where the clamp cuts off all below the zero point.
constexpr uint32_t kQConvLift = 0x4B000000u;
constexpr int64_t kQConvLiftable = 1 << 23;
constexpr float kQConvLifted = 8388608;     // 2^23
constexpr float kQConvLeastScale = 1e-30f;  // of channels that are lifted, unless 0: no product is denormal

// Consecutive depths of a channel: `count` weights from `from` go to depth `to` of the packed ones.
struct QPiece {
  int64_t to, from, count;
};

// How amx.cc finds the bytes of a row. Rows are `lda` bytes apart, and each step takes `depth` bytes at the same offset
// of all rows. A convolution with a window copies its input lines with their padding to planes, one per phase of the
// strides: then the rows of a tap are neighbouring pixels. Tiles of rows either go on from line to line, as if lines
// were one long row, and rows between the lines, where a window begins in the padding, are computed and dropped; or
// each line has tiles of its own, and the rows that the last of them has too many are.
struct QTilePlan {
  enum Way {
    in_place,     // rows of the input itself
    merged,       // taps of a kernel row are contiguous
    separate,     // each tap by itself
    interleaved,  // few channels, strided: a pixel holds all phases, and taps are contiguous
    gather,       // rows are made contiguous in the scratch
    sliced        // tiles of rows are made contiguous in the scratch: see amx_sliced.h
  } way;
  bool planes() const { return way == merged || way == separate || way == interleaved; }
  int64_t depth;  // up to 64, a multiple of 4
  int64_t lda;
  int32_t* at;  // [steps]
  int32_t few[kFewSteps];
  int64_t pieces;                     // of the packed weights of a channel
  int64_t pixel, line_bytes;          // bytes of a pixel of the planes; of the scratch for a line
  int64_t cols, pitch;                // pixels that are read of a line; from a line to the next
  int64_t phases_h, phases_w, plane;  // planes, and bytes from one to the next
  // Two interleaved lines become 64 bytes after 64 bytes: words pick[32 * (i % picks)] ... of both lines from byte
  // pick_from[i] on. No picks: piece by piece.
  int64_t picks;
  int16_t* pick;
  int32_t* pick_from;
  int64_t block_lines, image_blocks;  // output lines per block, blocks per image
  int64_t line_tiles;                 // tiles of a line; 0: they go on from line to line
  int64_t slices, group;              // of the depth; tiles of columns whose sums are kept
  // In the scratch: rows' residuals, addresses of tiles, dropped outputs, planes or rows, one line or sums.
  int64_t at_from, at_tiles, at_spoilt, at_copy, at_line;
};

struct QConvParams {
  int64_t ih, iw, ic, oh, ow, oc;
  int64_t kh, kw, sh, sw, pt, pl, dh, dw;
  int64_t groups, icg, ocg;
  int64_t ow_first, ow_last;             // windows of output columns [first, last) lie inside the image
  int64_t pixels;                        // rows of the product
  int64_t k;                             // depth
  int64_t lda;                           // elements between rows of the scratch copy
  int64_t steps;                         // depth in units of the kernel's k-unroll; steps of amx.cc
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
  bool narrow;   // scaled values, residual included, stay within +-32000
  QForm form;
  QRows rows;
  QTilePlan tiled;
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

// Whether threads had better share out the columns, so that each reads its part of the weights and all of the input,
// than the rows: where weights are so much larger that they are to stay in the cores' caches.
inline bool qconv_shares_columns(const QConvParams& p, int64_t threads) {
  return threads > 1 && p.tiles >= threads && p.group_bytes >= 6 * p.pixels * p.ic;
}

// For amx.cc, before and after the sizes of the packed weights are known. band: output rows of an item, 0 for any.
// threads: blocks are such that so many of them get equal shares.
Status qconv_plan_tiles(StepContext& ctx, bool banded, QConvParams* p);
QPiece qconv_piece(const QConvParams& p, int64_t i);
// About how long an item of so many rows and columns takes.
double qconv_tiles_ns(const QConvParams& p, double rows, double columns);
void qconv_plan_blocks(int64_t band, int64_t threads, QConvParams* p, int64_t* scratch);

}  // namespace irk
