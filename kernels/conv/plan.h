// Checks and packing that convolution, linear and transposed convolution share (conv/plan.cc).
#pragma once
#include "conv/conv.h"
#include "conv/few.h"
#include "runtime/family.h"

namespace irk {

struct ConvShape {
  int64_t n, ih, iw, ic;
  int64_t oh, ow, oc;
  int64_t kh, kw, groups;
  int64_t stride[2], dilation[2], pad[2];  // pad: top, left
  bool transposed;                         // stride spreads the input; pad crops the output
  bool planar;                             // the input is [n][ic][ih][iw]
  // For kernels/chain, else 0: output rows of a work item (dwconv: of an item for each channel block), a divisor of
  // oh; and rows that the buffers hold (0: all), row r at r % rows. Items' rows lie one after the other there.
  int64_t band;
  int64_t in_rows, out_rows;
};

// Reads attributes act, lo, hi, alpha. Slopes (leaky, prelu) come as an array of oc values, each repeated from `slope`
// if that has one entry; null for other activations.
Status read_act(StepContext& ctx, const Tensor* slope, int64_t oc, ActParams* act, const float** slopes);

// Exactly `count` inputs (absent ones null) and one output: kernels find their buffers by position.
Status want_inputs(StepContext& ctx, int count);

// Optional constant f32 vector with `count` entries (or one, if `one_ok`) at input i.
Status want_vector(StepContext& ctx, int i, int64_t count, bool one_ok);

// Optional residual at input i: same shape as the output.
Status want_residual(StepContext& ctx, int i);
// PreparedStep::in_place of these kernels: the end of a tile reads the residual of the outputs that it writes then.
constexpr uint64_t residual_in_place() { return uint64_t{1} << kConvResidual; }

// What convolution and transposed convolution share (conv/prepare.cc): reads operands, attributes and extents, whose
// output remains to be compared. `most`: of strides, dilation, pads and kernel; shape->planar is set, pads: 4 values.
Status read_window(StepContext& ctx, const char* name, int64_t most, ConvShape* shape, int64_t* pads);

// The output's extent is the one that the input and the window give.
Status want_extent(const StepContext& ctx, const char* name, int64_t got, int64_t want);

// Checks inputs, output and attributes of a convolution step (conv/prepare.cc; dwconv has the same ones).
Status read_conv(StepContext& ctx, ConvShape* shape);

// Extent of a convolution's output; negative when the window does not fit.
inline int64_t conv_extent(int64_t in, int64_t pads, int64_t kernel, int64_t stride, int64_t dilation) {
  const int64_t room = in + pads - (kernel - 1) * dilation - 1;
  return room < 0 ? -1 : room / stride + 1;
}

// Plans a step whose inputs are x, w (constant, [oc][kh][kw][ic / groups]), bias, residual, slope.
Status plan_conv(StepContext& ctx, const ConvShape& s, PreparedStep* out);

// Whether the kernel for few input channels (conv/few.h), the only one for planar images, can do it and is the better
// one there; plans that.
bool suits_few(const ConvShape& s, Isa isa);
Status plan_few(StepContext& ctx, const ConvShape& s, const KernelRow* row, const FewParams** params,
                PreparedStep* out);

// Plans a convolution step by Winograd's method, with output tiles of tile x tile pixels (conv/winograd.cc).
Status plan_winograd(StepContext& ctx, const ConvShape& s, int64_t tile, PreparedStep* out);

// Register tile of an ISA level, and the width in vectors of the panels that make m rows times nvec vectors of columns,
// k deep, cheapest; `far`: weights come from afar.
const ConvTiles& tiles_of(Isa isa);
int64_t choose_width(const ConvTiles& t, int64_t m, int64_t k, int64_t nvec, bool far);

// Plans a depthwise step (dwconv/prepare.cc) with the same inputs; `blocks` gets the channel blocks, the items of a
// band.
Status plan_dwconv(StepContext& ctx, const ConvShape& s, PreparedStep* out, int64_t* blocks);

}  // namespace irk
