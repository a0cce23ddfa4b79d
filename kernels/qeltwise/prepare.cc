// attrs: op "quantize" | "dequantize": m (1/s or s), z; or inputs m f32[C], z i32[C] and axis for one a channel
//        op "quantize", planar, if there: x is [N, C, H, W], y is [N, H, W, C]
//        op "requantize": m, zx, zy, lo, hi
//        op "add": ma, mb, za, zb, zy, lo, hi, sa, sb (element strides of a and b along the output's axes)
//        op "mul": ma, za, zb, zy, lo, hi, sa, sb
#include "qeltwise/qeltwise.h"

#include <math.h>
#include <string.h>

#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {
namespace {

constexpr int64_t kMaxStride = int64_t{1} << 48;

Status attr_multiplier(const StepContext& ctx, const char* key, float* out) {
  IRK_TRY(ctx.attr_f32(key, out));
  if (!isfinite(*out)) return fail(Code::bad_file, "%s: qeltwise: %s is not finite", ctx.loc, key);
  return {};
}

Status attr_q(const StepContext& ctx, const char* key, int32_t* out) {
  int64_t v;
  IRK_TRY(ctx.attr_int(key, -128, 127, &v));
  *out = static_cast<int32_t>(v);
  return {};
}

Status attr_output(const StepContext& ctx, QeltwiseParams* p) {
  IRK_TRY(attr_q(ctx, "zy", &p->zy));
  IRK_TRY(attr_q(ctx, "lo", &p->lo));
  IRK_TRY(attr_q(ctx, "hi", &p->hi));
  if (p->lo > p->hi) return fail(Code::bad_file, "%s: qeltwise: lo > hi", ctx.loc);
  return {};
}

Status want_same_count(const StepContext& ctx) {
  if (ctx.in[0]->count != ctx.out[0]->count)
    return fail(Code::bad_file, "%s: qeltwise: input has %lld elements, output %lld", ctx.loc,
                static_cast<long long>(ctx.in[0]->count), static_cast<long long>(ctx.out[0]->count));
  return {};
}

// Multipliers and zero points along an axis: the output as [outer, channels, inner].
Status per_axis(const StepContext& ctx, QeltwiseParams* p) {
  const Tensor& out = *ctx.out[0];
  int64_t axis;
  IRK_TRY(ctx.attr_int("axis", 0, out.rank - 1, &axis));
  IRK_TRY(ctx.want_in(1, DType::f32, 1));
  IRK_TRY(ctx.want_in(2, DType::i32, 1));
  const int64_t channels = out.dims[axis];
  const Tensor &m = *ctx.in[1], &z = *ctx.in[2];
  if (!m.data || !z.data || m.count != channels || z.count != channels)
    return fail(Code::bad_file, "%s: qeltwise: needs %lld constant multipliers and zero points", ctx.loc,
                static_cast<long long>(channels));
  float* mc = static_cast<float*>(ctx.alloc->alloc(channels * 4));
  int32_t* zc = static_cast<int32_t*>(ctx.alloc->alloc(channels * 4));
  if (!mc || !zc) return fail(Code::out_of_memory, "%s: qeltwise: out of memory", ctx.loc);
  memcpy(mc, m.data, static_cast<size_t>(channels) * 4);
  memcpy(zc, z.data, static_cast<size_t>(channels) * 4);
  for (int64_t c = 0; c < channels; c++)
    if (!isfinite(mc[c]) || zc[c] < -128 || zc[c] > 127)
      return fail(Code::bad_file, "%s: qeltwise: multiplier or zero point %lld out of range", ctx.loc,
                  static_cast<long long>(c));
  p->m = mc;
  p->z = zc;
  p->channels = channels;
  int64_t inner = 1;
  for (int i = static_cast<int>(axis) + 1; i < out.rank; i++) inner *= out.dims[i];
  p->per_lane = inner == 1;
  p->n = p->per_lane ? channels : inner;
  return {};
}

Status prepare_planar(const StepContext& ctx, QeltwiseParams* p) {
  IRK_TRY(ctx.want_in(0, DType::f32, 4));
  IRK_TRY(ctx.want_out(0, DType::i8, 4));
  const int64_t *x = ctx.in[0]->dims, *y = ctx.out[0]->dims;
  if (p->m || x[0] != y[0] || x[1] != y[3] || x[2] != y[1] || x[3] != y[2])
    return fail(Code::bad_file, "%s: qeltwise: this image can't be quantized by planes", ctx.loc);
  p->planes = x[1];
  p->n = x[2] * x[3];
  p->dims[0] = x[0];
  return {};
}

Status prepare_unary(const StepContext& ctx, const char* op, QeltwiseParams* p) {
  IRK_TRY(want_same_count(ctx));
  p->n = ctx.out[0]->count;
  if (strcmp(op, "requantize") == 0) {
    IRK_TRY(attr_multiplier(ctx, "m", &p->ma));
    IRK_TRY(attr_q(ctx, "zx", &p->za));
    IRK_TRY(attr_output(ctx, p));
  } else if (ctx.n_in == 3) {
    IRK_TRY(per_axis(ctx, p));
  } else {
    // Quantizing may have an infinite 1/s: its products are infinite or NaN, which saturate or become z.
    IRK_TRY(strcmp(op, "quantize") == 0 ? ctx.attr_f32("m", &p->ma) : attr_multiplier(ctx, "m", &p->ma));
    IRK_TRY(attr_q(ctx, "z", &p->za));
  }
  p->rank = 1;
  p->step_a = 1;
  p->dims[0] = ctx.out[0]->count / p->n;
  if (ctx.has("planar") && strcmp(op, "quantize") == 0) IRK_TRY(prepare_planar(ctx, p));
  p->sa[0] = p->n;
  return {};
}

// Rows of the output over which both operands have a constant stride.
Status prepare_binary(const StepContext& ctx, bool add, QeltwiseParams* p, uint64_t* in_place) {
  const Tensor& out = *ctx.out[0];
  IRK_TRY(attr_multiplier(ctx, "ma", &p->ma));
  if (add) IRK_TRY(attr_multiplier(ctx, "mb", &p->mb));
  IRK_TRY(attr_q(ctx, "za", &p->za));
  IRK_TRY(attr_q(ctx, "zb", &p->zb));
  IRK_TRY(attr_output(ctx, p));
  int64_t sa[kMaxRank], sb[kMaxRank];
  IRK_TRY(ctx.attr_ints("sa", out.rank, 0, kMaxStride, sa));
  IRK_TRY(ctx.attr_ints("sb", out.rank, 0, kMaxStride, sb));
  for (int k = 0; k < 2; k++) {
    int64_t last = 0;
    for (int i = 0; i < out.rank; i++) {
      int64_t span;
      if (!mul_ok(out.dims[i] - 1, (k ? sb : sa)[i], &span) || !add_ok(last, span, &last))
        return fail(Code::bad_file, "%s: qeltwise: strides overflow", ctx.loc);
    }
    if (last >= ctx.in[k]->count)
      return fail(Code::bad_file, "%s: qeltwise: input %d: reads element %lld of %lld", ctx.loc, k,
                  static_cast<long long>(last), static_cast<long long>(ctx.in[k]->count));
    if (is_dense(out, k ? sb : sa)) *in_place |= uint64_t{1} << k;
  }
  int n = 0;
  for (int i = 0; i < out.rank; i++) {
    if (out.dims[i] == 1) continue;
    if (n && p->sa[n - 1] == sa[i] * out.dims[i] && p->sb[n - 1] == sb[i] * out.dims[i]) {
      p->dims[n - 1] *= out.dims[i];
      n--;
    } else {
      p->dims[n] = out.dims[i];
    }
    p->sa[n] = sa[i];
    p->sb[n] = sb[i];
    n++;
  }
  p->n = p->step_a = p->step_b = 1;
  if (n) {
    n--;
    p->n = p->dims[n];
    p->step_a = p->sa[n];
    p->step_b = p->sb[n];
  }
  p->rank = n;
  return {};
}

}  // namespace

Status irk_prepare_qeltwise(StepContext& ctx, PreparedStep* step) {
  const char* op;
  IRK_TRY(ctx.attr_str("op", &op));
  const bool quantize = strcmp(op, "quantize") == 0, dequantize = strcmp(op, "dequantize") == 0;
  const bool requantize = strcmp(op, "requantize") == 0, add = strcmp(op, "add") == 0, mul = strcmp(op, "mul") == 0;
  const bool binary = add || mul, scaled = quantize || dequantize;
  if (!binary && !requantize && !scaled) return fail(Code::bad_file, "%s: qeltwise: unknown op", ctx.loc);
  if (ctx.n_out != 1 || (binary ? ctx.n_in != 2 : ctx.n_in != 1 && !(scaled && ctx.n_in == 3)))
    return fail(Code::bad_file, "%s: qeltwise: wrong number of operands", ctx.loc);
  IRK_TRY(ctx.want_in(0, quantize ? DType::f32 : DType::i8, -1));
  if (binary) IRK_TRY(ctx.want_in(1, DType::i8, -1));
  IRK_TRY(ctx.want_out(0, dequantize ? DType::f32 : DType::i8, -1));

  QeltwiseParams* p = static_cast<QeltwiseParams*>(ctx.alloc->alloc(sizeof(QeltwiseParams)));
  if (!p) return fail(Code::out_of_memory, "%s: qeltwise: out of memory", ctx.loc);
  *p = {};
  p->n_in = ctx.n_in;
  p->lo = -128;
  p->hi = 127;
  IRK_TRY(binary ? prepare_binary(ctx, add, p, &step->in_place) : prepare_unary(ctx, op, p));
  if (requantize) step->in_place = 1;
  p->block = kQeltwiseBlock;
  p->blocks = (p->n + p->block - 1) / p->block;

  const KernelRow* row = pick_kernel("qeltwise", op, ctx.isa);
  if (!row) return fail(Code::internal, "%s: qeltwise: no kernel", ctx.loc);
  step->fn = row->fn;
  step->params = p;
  step->items = p->blocks;
  for (int i = 0; i < p->rank; i++) step->items *= p->dims[i];
  step->grain = 16384 / ((p->n < p->block ? p->n : p->block) * (p->planes ? p->planes : 1)) + 1;
  step->kernel = quantize     ? IRK_KERNEL_NAME("qeltwise.quantize", row)
                 : dequantize ? IRK_KERNEL_NAME("qeltwise.dequantize", row)
                 : requantize ? IRK_KERNEL_NAME("qeltwise.requantize", row)
                 : add        ? IRK_KERNEL_NAME("qeltwise.add", row)
                              : IRK_KERNEL_NAME("qeltwise.mul", row);
  return {};
}

}  // namespace irk
