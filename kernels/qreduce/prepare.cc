// attrs: m = f32(s_x / (s_y * count)), zx, zy, strides (of the input along the output's axes), sum_dims, sum_strides.
#include "qreduce/qreduce.h"

#include <math.h>

#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {
namespace {

constexpr int64_t kMaxStride = int64_t{1} << 48;

struct Axes {
  int rank;
  int64_t dims[kMaxRank], strides[kMaxRank];
  int64_t n, step;
};

// Drops axes of one element, merges neighbours, and takes the innermost one out as n, step.
Axes simplify(const int64_t* dims, const int64_t* strides, int rank) {
  Axes a = {};
  for (int i = 0; i < rank; i++) {
    if (dims[i] == 1) continue;
    if (a.rank && a.strides[a.rank - 1] == strides[i] * dims[i]) {
      a.dims[a.rank - 1] *= dims[i];
      a.strides[a.rank - 1] = strides[i];
    } else {
      a.dims[a.rank] = dims[i];
      a.strides[a.rank++] = strides[i];
    }
  }
  a.n = a.step = 1;
  if (a.rank) {
    a.rank--;
    a.n = a.dims[a.rank];
    a.step = a.strides[a.rank];
  }
  return a;
}

}  // namespace

Status irk_prepare_qreduce(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_in != 1 || ctx.n_out != 1) return fail(Code::bad_file, "%s: qreduce: one input, one output", ctx.loc);
  IRK_TRY(ctx.want_in(0, DType::i8, -1));
  IRK_TRY(ctx.want_out(0, DType::i8, -1));
  const Tensor &x = *ctx.in[0], &y = *ctx.out[0];
  int64_t strides[kMaxRank], sum_dims[kMaxRank], sum_strides[kMaxRank], zx, zy;
  int sum_rank;
  float m;
  IRK_TRY(ctx.attr_f32("m", &m));
  IRK_TRY(ctx.attr_int("zx", -128, 127, &zx));
  IRK_TRY(ctx.attr_int("zy", -128, 127, &zy));
  if (!isfinite(m)) return fail(Code::bad_file, "%s: qreduce: m is not finite", ctx.loc);
  IRK_TRY(ctx.attr_ints("strides", y.rank, 0, kMaxStride, strides));
  IRK_TRY(ctx.attr_ints_n("sum_dims", kMaxRank, 1, kMaxStride, sum_dims, &sum_rank));
  IRK_TRY(ctx.attr_ints("sum_strides", sum_rank, 0, kMaxStride, sum_strides));
  int64_t last = 0, count = 1, span;
  for (int i = 0; i < y.rank + sum_rank; i++) {
    const int64_t dim = i < y.rank ? y.dims[i] : sum_dims[i - y.rank];
    const int64_t s = i < y.rank ? strides[i] : sum_strides[i - y.rank];
    if (!mul_ok(dim - 1, s, &span) || !add_ok(last, span, &last) || (i >= y.rank && !mul_ok(count, dim, &count)))
      return fail(Code::bad_file, "%s: qreduce: strides overflow", ctx.loc);
  }
  if (last >= x.count)
    return fail(Code::bad_file, "%s: qreduce: reads element %lld of %lld", ctx.loc, static_cast<long long>(last),
                static_cast<long long>(x.count));
  if (count > (1 << 23)) return fail(Code::unsupported, "%s: qreduce: too many elements for exact sums", ctx.loc);

  QreduceParams* p = static_cast<QreduceParams*>(ctx.alloc->alloc(sizeof(QreduceParams)));
  if (!p) return fail(Code::out_of_memory, "%s: qreduce: out of memory", ctx.loc);
  *p = {};
  const Axes out = simplify(y.dims, strides, y.rank), sum = simplify(sum_dims, sum_strides, sum_rank);
  p->rank = out.rank;
  p->n = out.n;
  p->step = out.step;
  p->sum_rank = sum.rank;
  p->sum_n = sum.n;
  p->sum_step = sum.step;
  for (int i = 0; i < kMaxRank; i++) {
    p->dims[i] = out.dims[i];
    p->strides[i] = out.strides[i];
    p->sum_dims[i] = sum.dims[i];
    p->sum_strides[i] = sum.strides[i];
  }
  p->blocks = (p->n + kQreduceBlock - 1) / kQreduceBlock;
  p->m = m;
  p->bias = static_cast<int32_t>(-zx * count);
  p->zy = static_cast<int32_t>(zy);
  const KernelRow* row = pick_kernel("qreduce", "s8", ctx.isa);
  if (!row) return fail(Code::internal, "%s: qreduce: no kernel", ctx.loc);
  step->fn = row->fn;
  step->params = p;
  step->items = y.count / p->n * p->blocks;
  step->grain = 40000 / (count * (p->n < kQreduceBlock ? p->n : kQreduceBlock)) + 1;
  step->kernel = IRK_KERNEL_NAME("qreduce.mean", row);
  return {};
}

}  // namespace irk
