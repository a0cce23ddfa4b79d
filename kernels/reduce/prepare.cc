// reduce: x f32 (sum, mean, max, min) or i8, u8, i32, i64 (sum, max, min), y of the same dtype. Attributes: op, axes
// (in memory order, rising). y holds the kept axes in their order; its dims may keep reduced axes as 1.
#include "reduce/reduce.h"

#include <string.h>

#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {
namespace {

Status read_op(StepContext& ctx, int32_t* op) {
  const char* name = "";
  IRK_TRY(ctx.attr_str("op", &name));
  const char* const names[4] = {"sum", "mean", "max", "min"};
  for (int32_t i = 0; i < 4; ++i) {
    if (strcmp(name, names[i]) == 0) {
      *op = i;
      return Status();
    }
  }
  return fail(Code::bad_file, "%s: reduce op is none of sum, mean, max, min", ctx.loc);
}

// Splits the axes of x into alternating kept and reduced dimensions; neighbours of one kind are one.
Status collapse(StepContext& ctx, const Tensor& x, const int64_t* axes, int n_axes, reduce::Params* p) {
  bool red[kMaxRank] = {false};
  for (int i = 0; i < n_axes; ++i) {
    if (i > 0 && axes[i] <= axes[i - 1]) return fail(Code::bad_file, "%s: reduce axes do not rise", ctx.loc);
    red[axes[i]] = true;
  }
  int64_t dim[kMaxRank];
  bool kind[kMaxRank];
  int n = 0;
  for (int i = 0; i < x.rank; ++i) {
    if (x.dims[i] == 1) continue;
    if (n > 0 && kind[n - 1] == red[i]) {
      dim[n - 1] *= x.dims[i];
    } else {
      dim[n] = x.dims[i];
      kind[n++] = red[i];
    }
  }
  p->inner = n > 0 ? dim[n - 1] : 1;
  p->inner_kept = n > 0 && !kind[n - 1];
  p->red_count = 1;
  int64_t stride = p->inner, kept = 1;
  int at_kept = 0, at_red = 0;
  for (int i = 0; i + 1 < n; ++i) (kind[i] ? at_red : at_kept)++;
  p->n_kept = at_kept;
  p->n_red = at_red;
  for (int i = n - 2; i >= 0; --i) {
    if (kind[i]) {
      p->red_dim[--at_red] = dim[i];
      p->red_stride[at_red] = stride;
      p->red_count *= dim[i];
    } else {
      p->kept_dim[--at_kept] = dim[i];
      p->kept_stride[at_kept] = stride;
      kept *= dim[i];
    }
    stride *= dim[i];
  }
  const int64_t results = p->inner_kept ? kept * p->inner : kept;
  if (ctx.out[0]->count != results) {
    return fail(Code::bad_file, "%s: reduce gives %lld elements, the output has %lld", ctx.loc,
                static_cast<long long>(results), static_cast<long long>(ctx.out[0]->count));
  }
  p->count = static_cast<float>(x.count / results);
  p->blocks = p->inner_kept ? (p->inner + reduce::kBlock - 1) / reduce::kBlock : 1;
  return Status();
}

}  // namespace

Status irk_prepare_reduce(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_in != 1 || ctx.n_out != 1 || !ctx.in[0] || !ctx.out[0]) {
    return fail(Code::bad_file, "%s: reduce wants one input, one output", ctx.loc);
  }
  const Tensor& x = *ctx.in[0];
  IRK_TRY(ctx.want_out(0, x.dtype, -1));
  int64_t axes[kMaxRank];
  int n_axes = 0;
  IRK_TRY(ctx.attr_ints_n("axes", kMaxRank, 0, x.rank - 1, axes, &n_axes));
  reduce::Params* p = static_cast<reduce::Params*>(ctx.alloc->alloc(sizeof(reduce::Params)));
  if (!p) return fail(Code::out_of_memory, "%s: reduce parameters", ctx.loc);
  memset(p, 0, sizeof *p);
  IRK_TRY(read_op(ctx, &p->op));
  p->dtype = static_cast<int32_t>(x.dtype);
  IRK_TRY(collapse(ctx, x, axes, n_axes, p));
  const bool is_int = x.dtype == DType::i8 || x.dtype == DType::u8 || x.dtype == DType::i32 || x.dtype == DType::i64;
  if (x.dtype != DType::f32 && (!is_int || p->op == reduce::mean)) {
    return fail(Code::unsupported, "%s: reduce does not do this element type", ctx.loc);
  }
  const KernelRow* row = pick_kernel("reduce", is_int ? "int" : "f32", ctx.isa);
  step->fn = row->fn;
  step->params = p;
  const int64_t results = ctx.out[0]->count;
  step->items = p->inner_kept ? results / p->inner * p->blocks : results;
  step->grain = 16384 / (x.count / step->items + 1) + 1;
  step->kernel = is_int ? "reduce.int.scalar" : IRK_KERNEL_NAME("reduce.f32", row);
  return Status();
}

}  // namespace irk
