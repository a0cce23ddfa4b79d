// deconv (transposed convolution): x f32 [N, H, W, C], w f32 [O, KH, KW, C / groups] constant, bias [O]?, residual?,
// slope?. Attributes strides, pads (crop top, left, bottom, right), output_padding, dilation, groups; act as in conv,
// whose kernel it runs: gathers the taps that reach an output pixel, one phase for each remainder by the stride.
#include "conv/plan.h"

namespace irk {

Status irk_prepare_deconv(StepContext& ctx, PreparedStep* out) {
  constexpr int64_t kMax = 1 << 14;
  ConvShape s = {};
  s.transposed = true;
  int64_t pads[4], extra[2];
  IRK_TRY(ctx.attr_ints("output_padding", 2, 0, kMax, extra));
  IRK_TRY(read_window(ctx, "deconv", kMax, &s, pads));
  const int64_t h = (s.ih - 1) * s.stride[0] + (s.kh - 1) * s.dilation[0] + 1 + extra[0];
  const int64_t w = (s.iw - 1) * s.stride[1] + (s.kw - 1) * s.dilation[1] + 1 + extra[1];
  IRK_TRY(want_extent(ctx, "deconv", s.oh, h - pads[0] - pads[2]));
  IRK_TRY(want_extent(ctx, "deconv", s.ow, w - pads[1] - pads[3]));
  return plan_conv(ctx, s, out);
}

}  // namespace irk
