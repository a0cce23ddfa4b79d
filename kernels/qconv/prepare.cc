// qconv: in x i8 NHWC, w i8 OHWI, bias i32 [O]?, m f32 [O], residual i8 NHWC?; out i8 or f32 NHWC.
// attrs strides[2] pads[4] dilation[2] groups zx zy zr mr lo hi.
#include <math.h>

#include "qconv/qconv.h"

namespace irk {

Status qconv_read_common(StepContext& ctx, int rank, int w_rank, QConvShape* s) {
  if (ctx.n_in != 5 || ctx.n_out != 1)
    return fail(Code::bad_file, "%s: wants 5 inputs and 1 output, has %d and %d", ctx.loc, ctx.n_in, ctx.n_out);
  IRK_TRY(ctx.want_in(0, DType::i8, rank));
  IRK_TRY(ctx.want_in(1, DType::i8, w_rank));
  IRK_TRY(ctx.want_in(3, DType::f32, 1));
  if (ctx.in[2]) IRK_TRY(ctx.want_in(2, DType::i32, 1));
  if (ctx.in[4]) IRK_TRY(ctx.want_in(4, DType::i8, rank));
  const bool f32 = ctx.out[0] && ctx.out[0]->dtype == DType::f32;
  IRK_TRY(ctx.want_out(0, f32 ? DType::f32 : DType::i8, rank));
  const int64_t oc = ctx.in[1]->dims[0];
  for (int i = 1; i <= 3; i++) {
    if (!ctx.in[i]) continue;
    if (!ctx.in[i]->data) return fail(Code::bad_file, "%s: input %d must be a constant", ctx.loc, i);
    if (ctx.in[i]->dims[0] != oc)
      return fail(Code::bad_file, "%s: input %d does not have %lld channels", ctx.loc, i, (long long)oc);
  }
  IRK_TRY(ctx.attr_int("zx", -128, 127, &s->zx));
  IRK_TRY(ctx.attr_int("zy", -128, 127, &s->zy));
  IRK_TRY(ctx.attr_int("zr", -128, 127, &s->zr));
  IRK_TRY(ctx.attr_int("lo", -128, 127, &s->lo));
  IRK_TRY(ctx.attr_int("hi", -128, 127, &s->hi));
  IRK_TRY(ctx.attr_f32("mr", &s->mr));
  if (s->lo > s->hi) return fail(Code::bad_file, "%s: lo is greater than hi", ctx.loc);
  if (!(s->mr > -1e29f && s->mr < 1e29f)) return fail(Code::bad_file, "%s: mr is out of range", ctx.loc);
  s->oc = oc;
  s->w = static_cast<const int8_t*>(ctx.in[1]->data);
  s->bias = ctx.in[2] ? static_cast<const int32_t*>(ctx.in[2]->data) : nullptr;
  s->m = static_cast<const float*>(ctx.in[3]->data);
  s->residual = ctx.in[4] != nullptr;
  s->f32 = f32;
  if (s->residual) {
    if (s->f32) return fail(Code::bad_file, "%s: a residual needs an int8 output", ctx.loc);
    for (int i = 0; i < rank; i++)
      if (ctx.in[4]->dims[i] != ctx.out[0]->dims[i])
        return fail(Code::bad_file, "%s: residual and output differ in shape", ctx.loc);
  }
  return Status();
}

Status qconv_check_channel(const StepContext& ctx, int64_t channel, double most_sum, float m) {
  if (most_sum > 2147483647.0)
    return fail(Code::bad_file, "%s: the sum of output channel %lld may exceed int32", ctx.loc, (long long)channel);
  if (!(fabsf(m) < 1e29f))
    return fail(Code::bad_file, "%s: multiplier of output channel %lld is out of range", ctx.loc, (long long)channel);
  return Status();
}

Status qconv_read_geometry(StepContext& ctx, QConvShape* out) {
  QConvShape& s = *out;
  int64_t strides[2], pads[4], dilation[2];
  constexpr int64_t kMost = 1 << 20;  // keeps the products below far from overflow
  IRK_TRY(ctx.attr_ints("strides", 2, 1, kMost, strides));
  IRK_TRY(ctx.attr_ints("pads", 4, 0, kMost, pads));
  IRK_TRY(ctx.attr_ints("dilation", 2, 1, kMost, dilation));
  IRK_TRY(ctx.attr_int("groups", 1, kMost, &s.groups));
  const Tensor &x = *ctx.in[0], &w = *ctx.in[1], &y = *ctx.out[0];
  s.n = x.dims[0], s.ih = x.dims[1], s.iw = x.dims[2], s.ic = x.dims[3];
  s.oh = y.dims[1], s.ow = y.dims[2];
  s.kh = w.dims[1], s.kw = w.dims[2];
  s.sh = strides[0], s.sw = strides[1], s.pt = pads[0], s.pl = pads[1], s.dh = dilation[0], s.dw = dilation[1];
  if (y.dims[0] != s.n || y.dims[3] != s.oc || s.oc % s.groups != 0 || s.ic % s.groups != 0 ||
      w.dims[3] != s.ic / s.groups)
    return fail(Code::bad_file, "%s: channels or batch of input, weights and output do not fit together", ctx.loc);
  const int64_t in[2] = {s.ih, s.iw}, k[2] = {s.kh, s.kw}, o[2] = {s.oh, s.ow};
  for (int i = 0; i < 2; i++) {
    if (in[i] > kMost || k[i] > kMost) return fail(Code::unsupported, "%s: image or kernel too large", ctx.loc);
    const int64_t room = in[i] + pads[i] + pads[i + 2] - (k[i] - 1) * dilation[i] - 1;
    if (room < 0 || room / strides[i] + 1 != o[i])
      return fail(Code::bad_file, "%s: output size %lld on axis %d does not follow from the input", ctx.loc,
                  (long long)o[i], i + 1);
  }
  return Status();
}

Status irk_prepare_qconv(StepContext& ctx, PreparedStep* out) {
  QConvShape s;
  IRK_TRY(qconv_read_common(ctx, 4, 4, &s));
  IRK_TRY(qconv_read_geometry(ctx, &s));
  if (ctx.band_rows > 0 && s.n == 1 && s.groups == 1) {
    s.band = ctx.band_rows < s.oh ? ctx.band_rows : s.oh;
    const int64_t span = (s.kh - 1) * s.dh + 1;
    out->band = {s.band, 1, s.sh, s.pt, span > 1 ? span + s.sh : 1};  // amx.cc copies as many lines of each phase
  }
  return qconv_build(ctx, s, false, out);
}

}  // namespace irk
