// attrs: axis (in memory); for an int8 result: m = f32(1 / s), zy. Inputs: x i8, table i32[256].
#include "qsoftmax/qsoftmax.h"

#include <math.h>
#include <string.h>

#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {

Status irk_prepare_qsoftmax(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_in != 2 || ctx.n_out != 1) return fail(Code::bad_file, "%s: qsoftmax: two inputs, one output", ctx.loc);
  IRK_TRY(ctx.want_in(0, DType::i8, -1));
  IRK_TRY(ctx.want_in(1, DType::i32, 1));
  const bool int8 = ctx.out[0] && ctx.out[0]->dtype == DType::i8;
  IRK_TRY(ctx.want_out(0, int8 ? DType::i8 : DType::f32, -1));
  const Tensor &x = *ctx.in[0], &table = *ctx.in[1], &y = *ctx.out[0];
  if (table.count != 256 || !table.data)
    return fail(Code::bad_file, "%s: qsoftmax: needs a constant table of 256 entries", ctx.loc);
  if (x.rank < 1 || x.count != y.count) return fail(Code::bad_file, "%s: qsoftmax: shapes differ", ctx.loc);
  QsoftmaxParams* p = static_cast<QsoftmaxParams*>(ctx.alloc->alloc(sizeof(QsoftmaxParams)));
  if (!p) return fail(Code::out_of_memory, "%s: qsoftmax: out of memory", ctx.loc);
  *p = {};
  memcpy(p->table, table.data, sizeof p->table);
  for (int i = 0; i < 256; i++)
    if (p->table[i] < (i == 0)) return fail(Code::bad_file, "%s: qsoftmax: table entry %d is too small", ctx.loc, i);
  int64_t axis, zy = 0;
  IRK_TRY(ctx.attr_int("axis", 0, x.rank - 1, &axis));
  if (int8) {
    IRK_TRY(ctx.attr_f32("m", &p->m));
    IRK_TRY(ctx.attr_int("zy", -128, 127, &zy));
    if (!isfinite(p->m)) return fail(Code::bad_file, "%s: qsoftmax: m is not finite", ctx.loc);
  }
  p->zy = static_cast<int32_t>(zy);
  p->n = x.dims[axis];
  p->inner = 1;
  for (int i = static_cast<int>(axis) + 1; i < x.rank; i++) p->inner *= x.dims[i];
  const KernelRow* row = pick_kernel("qsoftmax", int8 ? "s8" : "f32", ctx.isa);
  if (!row) return fail(Code::internal, "%s: qsoftmax: no kernel", ctx.loc);
  step->fn = row->fn;
  step->params = p;
  step->items = x.count / p->n;
  step->grain = 4096 / p->n + 1;
  step->kernel = int8 ? IRK_KERNEL_NAME("qsoftmax.s8", row) : IRK_KERNEL_NAME("qsoftmax.f32", row);
  return {};
}

}  // namespace irk
