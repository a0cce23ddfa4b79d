// conv: x f32 [N, H, W, C], w f32 [O, KH, KW, C / groups] constant, bias [O]?, residual?, slope [O or 1]?.
// Attributes strides, pads (top, left, bottom, right), dilation, groups; act none | clip | leaky | prelu | hardswish;
// winograd 2 | 4, the edge of output tiles (absent: the direct sum); planar, if there: x is [N, C, H, W].
#include "conv/plan.h"

namespace irk {

Status read_window(StepContext& ctx, const char* name, int64_t most, ConvShape* shape, int64_t* pads) {
  constexpr int64_t kMax = 1 << 24;
  IRK_TRY(want_inputs(ctx, kConvOut));
  IRK_TRY(ctx.want_in(kConvX, DType::f32, 4));
  IRK_TRY(ctx.want_in(kConvW, DType::f32, 4));
  IRK_TRY(ctx.want_out(0, DType::f32, 4));
  ConvShape& s = *shape;
  IRK_TRY(ctx.attr_ints("strides", 2, 1, most, s.stride));
  IRK_TRY(ctx.attr_ints("dilation", 2, 1, most, s.dilation));
  IRK_TRY(ctx.attr_ints("pads", 4, 0, most, pads));
  IRK_TRY(ctx.attr_int("groups", 1, kMax, &s.groups));
  const Tensor &x = *ctx.in[kConvX], &w = *ctx.in[kConvW], &y = *ctx.out[0];
  if (!w.data) return fail(Code::bad_file, "%s: %s weights must be constant", ctx.loc, name);
  const int64_t* in_dims = x.dims + (s.planar ? 2 : 1);
  s.n = x.dims[0], s.ih = in_dims[0], s.iw = in_dims[1], s.ic = x.dims[s.planar ? 1 : 3];
  s.oc = w.dims[0], s.kh = w.dims[1], s.kw = w.dims[2];
  s.oh = y.dims[1], s.ow = y.dims[2];
  s.pad[0] = pads[0], s.pad[1] = pads[1];
  if (s.ic % s.groups || s.oc % s.groups || w.dims[3] != s.ic / s.groups)
    return fail(Code::bad_file, "%s: %lld groups do not fit %lld input and %lld output channels", ctx.loc,
                (long long)s.groups, (long long)s.ic, (long long)s.oc);
  if (s.ih > kMax || s.iw > kMax || s.kh > most || s.kw > most)
    return fail(Code::unsupported, "%s: %s extent too large", ctx.loc, name);
  if (y.dims[0] != s.n || y.dims[3] != s.oc)
    return fail(Code::bad_file, "%s: %s output has a wrong shape", ctx.loc, name);
  IRK_TRY(want_vector(ctx, kConvBias, s.oc, false));
  IRK_TRY(want_residual(ctx, kConvResidual));
  return want_vector(ctx, kConvSlope, s.oc, true);
}

Status want_extent(const StepContext& ctx, const char* name, int64_t got, int64_t want) {
  if (got == want) return {};
  return fail(Code::bad_file, "%s: %s output extent %lld does not fit its input", ctx.loc, name, (long long)got);
}

Status read_conv(StepContext& ctx, ConvShape* shape) {
  ConvShape& s = *shape;
  s = {};
  s.planar = ctx.has("planar");
  int64_t pads[4];
  IRK_TRY(read_window(ctx, "conv", 1 << 24, &s, pads));
  const int64_t h = conv_extent(s.ih, pads[0] + pads[2], s.kh, s.stride[0], s.dilation[0]);
  const int64_t w = conv_extent(s.iw, pads[1] + pads[3], s.kw, s.stride[1], s.dilation[1]);
  IRK_TRY(want_extent(ctx, "conv", s.oh, h));
  IRK_TRY(want_extent(ctx, "conv", s.ow, w));
  if (s.planar && (s.groups != 1 || s.dilation[1] != 1 || s.kh * s.kw == 1 || ctx.has("winograd")))
    return fail(Code::bad_file, "%s: this convolution can't read a planar image", ctx.loc);
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
