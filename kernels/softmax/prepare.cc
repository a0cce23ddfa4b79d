// softmax: x f32, y f32 of the same dims. Attributes: axis (in memory order), log (0 or 1: log-softmax).
#include "softmax/softmax.h"

#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {

Status irk_prepare_softmax(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_in != 1 || ctx.n_out != 1) return fail(Code::bad_file, "%s: softmax wants one input, one output", ctx.loc);
  IRK_TRY(ctx.want_in(0, DType::f32, -1));
  const Tensor& x = *ctx.in[0];
  IRK_TRY(ctx.want_out(0, DType::f32, x.rank));
  for (int i = 0; i < x.rank; ++i) {
    if (x.dims[i] != ctx.out[0]->dims[i]) return fail(Code::bad_file, "%s: softmax changes axis %d", ctx.loc, i);
  }
  int64_t axis = 0, log = 0;
  IRK_TRY(ctx.attr_int("axis", 0, x.rank - 1, &axis));
  IRK_TRY(ctx.attr_int("log", 0, 1, &log));
  softmax::Params* p = static_cast<softmax::Params*>(ctx.alloc->alloc(sizeof(softmax::Params)));
  if (!p) return fail(Code::out_of_memory, "%s: softmax parameters", ctx.loc);
  *p = {1, x.dims[axis], 1, 1, static_cast<int32_t>(log)};
  for (int i = 0; i < axis; ++i) p->outer *= x.dims[i];
  for (int i = static_cast<int>(axis) + 1; i < x.rank; ++i) p->inner *= x.dims[i];
  p->blocks = p->inner == 1 ? 1 : (p->inner + softmax::kBlock - 1) / softmax::kBlock;
  const KernelRow* row = pick_kernel("softmax", "f32", ctx.isa);
  step->fn = row->fn;
  step->params = p;
  step->items = p->outer * p->blocks;
  step->grain = 4096 / (p->inner == 1 ? p->n : p->n * (p->inner < softmax::kBlock ? p->inner : softmax::kBlock)) + 1;
  step->scratch = p->inner == 1 ? 0 : 2 * softmax::kBlock * 4;
  step->kernel = IRK_KERNEL_NAME("softmax.f32", row);
  return Status();
}

}  // namespace irk
