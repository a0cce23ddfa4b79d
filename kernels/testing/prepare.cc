#include "testing/testing.h"

#include "runtime/family.h"

namespace irk {

// Attributes: factor, grain, scratch (floats, at least 1). Input 0 and the output are f32 of one size; more inputs are
// ignored.
Status irk_prepare_testing(StepContext& ctx, PreparedStep* step) {
  IRK_TRY(ctx.want_in(0, DType::f32, -1));
  IRK_TRY(ctx.want_out(0, DType::f32, -1));
  if (ctx.in[0]->count != ctx.out[0]->count)
    return fail(Code::bad_file, "%s: input and output differ in size", ctx.loc);
  TestingParams* p = static_cast<TestingParams*>(ctx.alloc->alloc(sizeof(TestingParams)));
  if (!p) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  IRK_TRY(ctx.attr_f32("factor", &p->factor));
  IRK_TRY(ctx.attr_int("grain", 1, 1 << 20, &step->grain));
  IRK_TRY(ctx.attr_int("scratch", 1, 1 << 20, &p->scratch));
  p->count = ctx.in[0]->count;
  p->n_in = ctx.n_in;
  const KernelRow* row = pick_kernel("testing", "f32", ctx.isa);
  step->fn = row->fn;
  step->params = p;
  step->items = p->count;
  step->scratch = p->scratch * static_cast<int64_t>(sizeof(float));
  step->kernel = "testing.f32.scalar";
  return Status();
}

}  // namespace irk
