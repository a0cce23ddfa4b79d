// attrs: op "max" | "avg" | "adaptive_max" | "adaptive_avg", and those of windows.h.
#include "pool/pool.h"
#include "runtime/kernel_name.h"

#include <string.h>

namespace irk {

Status irk_prepare_pool(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_in != 1 || ctx.n_out != 1) return fail(Code::bad_file, "%s: pool: one input, one output", ctx.loc);
  const char* op;
  IRK_TRY(ctx.attr_str("op", &op));
  const bool adaptive = strncmp(op, "adaptive_", 9) == 0;
  const char* kind = adaptive ? op + 9 : op;
  const bool average = strcmp(kind, "avg") == 0;
  if (!average && strcmp(kind, "max") != 0) return fail(Code::bad_file, "%s: pool: unknown op", ctx.loc);
  const bool int8 = !average && ctx.in[0] && ctx.in[0]->dtype == DType::i8;
  const DType dtype = int8 ? DType::i8 : DType::f32;
  IRK_TRY(ctx.want_in(0, dtype, -1));
  IRK_TRY(ctx.want_out(0, dtype, -1));

  PoolParams* p = static_cast<PoolParams*>(ctx.alloc->alloc(sizeof(PoolParams)));
  if (!p) return fail(Code::out_of_memory, "%s: pool: out of memory", ctx.loc);
  *p = {};
  IRK_TRY(read_pool_shape(ctx, adaptive, average, &p->shape));
  p->blocks = (p->shape.inner + kPoolBlock - 1) / kPoolBlock;
  const KernelRow* row = pick_kernel("pool", average ? "avg_f32" : int8 ? "max_i8" : "max_f32", ctx.isa);
  if (!row) return fail(Code::internal, "%s: pool: no kernel", ctx.loc);
  step->fn = row->fn;
  step->params = p;
  step->items = ctx.out[0]->count / p->shape.inner * p->blocks;
  const int64_t taps = p->shape.rows[0].count * p->shape.cols[0].count + 1;
  const int64_t lanes = p->shape.inner < kPoolBlock ? p->shape.inner : kPoolBlock;
  step->grain = 32768 / (taps * lanes) + 1;
  step->band = p->shape.band;
  step->band.items = p->shape.ow * p->blocks;
  step->kernel = average ? IRK_KERNEL_NAME("pool.avg", row)
                 : int8  ? IRK_KERNEL_NAME("pool.max_i8", row)
                         : IRK_KERNEL_NAME("pool.max", row);
  return {};
}

}  // namespace irk
