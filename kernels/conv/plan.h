// Checks and packing that convolution, linear and transposed convolution share (conv/plan.cc).
#pragma once
#include "conv/conv.h"
#include "runtime/family.h"

namespace irk {

struct ConvShape {
  int64_t n, ih, iw, ic;
  int64_t oh, ow, oc;
  int64_t kh, kw, groups;
  int64_t stride[2], dilation[2], pad[2];  // pad: top, left
  bool transposed;                         // stride spreads the input; pad crops the output
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

// Checks inputs, output and attributes of a convolution step (conv/prepare.cc; dwconv has the same ones).
Status read_conv(StepContext& ctx, ConvShape* shape);

// Plans a step whose inputs are x, w (constant, [oc][kh][kw][ic / groups]), bias, residual, slope.
Status plan_conv(StepContext& ctx, const ConvShape& s, PreparedStep* out);

}  // namespace irk
