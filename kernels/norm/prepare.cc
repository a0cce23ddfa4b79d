// norm: layer normalisation of the innermost n elements. Inputs x f32, gamma f32 [n] or absent, beta f32 [n] or absent;
// y f32 like x. Attributes: n, eps. y may take x's place.
#include "norm/norm.h"

#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {

Status irk_prepare_norm(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_in != 3 || ctx.n_out != 1) return fail(Code::bad_file, "%s: norm wants three inputs, one output", ctx.loc);
  IRK_TRY(ctx.want_in(0, DType::f32, -1));
  IRK_TRY(ctx.want_out(0, DType::f32, -1));
  const Tensor& x = *ctx.in[0];
  int64_t n = 0;
  float eps = 0;
  IRK_TRY(ctx.attr_int("n", 1, x.count, &n));
  IRK_TRY(ctx.attr_f32("eps", &eps));
  if (x.count % n || ctx.out[0]->count != x.count) {
    return fail(Code::bad_file, "%s: %lld elements in, %lld out, rows of %lld", ctx.loc,
                static_cast<long long>(x.count), static_cast<long long>(ctx.out[0]->count), static_cast<long long>(n));
  }
  for (int i = 1; i < 3; ++i) {
    if (!ctx.in[i]) continue;
    IRK_TRY(ctx.want_in(i, DType::f32, -1));
    if (ctx.in[i]->count != n)
      return fail(Code::bad_file, "%s: input %d does not hold %lld factors", ctx.loc, i, static_cast<long long>(n));
  }
  norm::Params* p = static_cast<norm::Params*>(ctx.alloc->alloc(sizeof(norm::Params)));
  if (!p) return fail(Code::out_of_memory, "%s: norm parameters", ctx.loc);
  *p = {x.count / n, n, eps};
  const KernelRow* row = pick_kernel("norm", "f32", ctx.isa);
  step->fn = row->fn;
  step->params = p;
  step->items = p->rows;
  step->grain = 8192 / n + 1;
  step->kernel = IRK_KERNEL_NAME("norm.f32", row);
  return Status();
}

}  // namespace irk
