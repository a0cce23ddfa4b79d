// conv: x f32 [N, H, W, C], w f32 [O, KH, KW, C / groups] constant, bias [O]?, residual?, slope [O or 1]?.
// Attributes strides, pads (top, left, bottom, right), dilation, groups; act none | clip | leaky | prelu | hardswish;
// winograd 2 | 4, the edge of output tiles (absent: the direct sum); planar, if there: x is [N, C, H, W].
#include "conv/plan.h"

namespace irk {

Status read_conv(StepContext& ctx, ConvShape* shape) {
  IRK_TRY(want_inputs(ctx, kConvOut));
  IRK_TRY(ctx.want_in(kConvX, DType::f32, 4));
  IRK_TRY(ctx.want_in(kConvW, DType::f32, 4));
  IRK_TRY(ctx.want_out(0, DType::f32, 4));
  ConvShape& s = *shape;
  s = {};
  int64_t pads[4];
  constexpr int64_t kMax = 1 << 24;
  IRK_TRY(ctx.attr_ints("strides", 2, 1, kMax, s.stride));
  IRK_TRY(ctx.attr_ints("dilation", 2, 1, kMax, s.dilation));
  IRK_TRY(ctx.attr_ints("pads", 4, 0, kMax, pads));
  IRK_TRY(ctx.attr_int("groups", 1, kMax, &s.groups));
  const Tensor &x = *ctx.in[kConvX], &w = *ctx.in[kConvW], &y = *ctx.out[0];
  if (!w.data) return fail(Code::bad_file, "%s: conv weights must be constant", ctx.loc);
  s.planar = ctx.has("planar");
  const int64_t* in_dims = x.dims + (s.planar ? 2 : 1);
  s.n = x.dims[0], s.ih = in_dims[0], s.iw = in_dims[1], s.ic = x.dims[s.planar ? 1 : 3];
  s.oc = w.dims[0], s.kh = w.dims[1], s.kw = w.dims[2];
  s.oh = y.dims[1], s.ow = y.dims[2];
  s.pad[0] = pads[0], s.pad[1] = pads[1];
  if (s.ic % s.groups || s.oc % s.groups || w.dims[3] != s.ic / s.groups)
    return fail(Code::bad_file, "%s: %lld groups do not fit %lld input and %lld output channels", ctx.loc,
                (long long)s.groups, (long long)s.ic, (long long)s.oc);
  const int64_t in[2] = {s.ih, s.iw}, kernel[2] = {s.kh, s.kw}, got[2] = {s.oh, s.ow};
  for (int i = 0; i < 2; i++) {
    if (in[i] > kMax || kernel[i] > kMax) return fail(Code::unsupported, "%s: conv extent too large", ctx.loc);
    if (got[i] != conv_extent(in[i], pads[i] + pads[i + 2], kernel[i], s.stride[i], s.dilation[i]))
      return fail(Code::bad_file, "%s: conv output extent %lld does not fit its input", ctx.loc, (long long)got[i]);
  }
  if (s.planar && (s.groups != 1 || s.dilation[1] != 1 || s.kh * s.kw == 1 || ctx.has("winograd")))
    return fail(Code::bad_file, "%s: this convolution can't read a planar image", ctx.loc);
  if (y.dims[0] != s.n || y.dims[3] != s.oc) return fail(Code::bad_file, "%s: conv output has a wrong shape", ctx.loc);
  IRK_TRY(want_vector(ctx, kConvBias, s.oc, false));
  IRK_TRY(want_residual(ctx, kConvResidual));
  IRK_TRY(want_vector(ctx, kConvSlope, s.oc, true));
  return {};
}

Status irk_prepare_conv(StepContext& ctx, PreparedStep* out) {
  ConvShape s;
  IRK_TRY(read_conv(ctx, &s));
  if (!ctx.has("winograd")) return plan_conv(ctx, s, out);
  int64_t tile;
  IRK_TRY(ctx.attr_int("winograd", 2, 4, &tile));
  return plan_winograd(ctx, s, tile, out);
}

}  // namespace irk
