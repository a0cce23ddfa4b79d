// linear: x f32 [..., K], w f32 [O, K] constant, bias [O]?, residual?, slope [O or 1]?; y [..., O]. Attributes: act as
// in conv, whose kernel it runs: a 1x1 convolution of an image with one row.
#include "conv/plan.h"

namespace irk {

Status irk_prepare_linear(StepContext& ctx, PreparedStep* out) {
  IRK_TRY(want_inputs(ctx, kConvOut));
  IRK_TRY(ctx.want_in(kConvX, DType::f32, -1));
  IRK_TRY(ctx.want_in(kConvW, DType::f32, 2));
  IRK_TRY(ctx.want_out(0, DType::f32, -1));
  const Tensor &x = *ctx.in[kConvX], &w = *ctx.in[kConvW], &y = *ctx.out[0];
  if (!w.data) return fail(Code::bad_file, "%s: linear weights must be constant", ctx.loc);
  const int64_t o = w.dims[0], k = w.dims[1];
  if (x.rank < 1 || x.dims[x.rank - 1] != k)
    return fail(Code::bad_file, "%s: linear input does not end in %lld features", ctx.loc, (long long)k);
  const int64_t m = x.count / k;
  if (y.rank < 1 || y.dims[y.rank - 1] != o || y.count / o != m)
    return fail(Code::bad_file, "%s: linear output has a wrong shape", ctx.loc);
  IRK_TRY(want_vector(ctx, kConvBias, o, false));
  IRK_TRY(want_residual(ctx, kConvResidual));
  IRK_TRY(want_vector(ctx, kConvSlope, o, true));
  ConvShape s = {};
  s.n = s.ih = s.oh = 1;
  s.iw = s.ow = m;
  s.ic = k, s.oc = o;
  s.kh = s.kw = s.groups = 1;
  s.stride[0] = s.stride[1] = s.dilation[0] = s.dilation[1] = 1;
  return plan_conv(ctx, s, out);
}

}  // namespace irk
