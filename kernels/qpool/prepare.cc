// attrs: sx, sy (scales), zx, zy (zero points), and those of pool/windows.h for an average.
#include "qpool/qpool.h"
#include "runtime/kernel_name.h"

#include <math.h>

namespace irk {

Status irk_prepare_qpool(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_in != 1 || ctx.n_out != 1) return fail(Code::bad_file, "%s: qpool: one input, one output", ctx.loc);
  IRK_TRY(ctx.want_in(0, DType::i8, -1));
  IRK_TRY(ctx.want_out(0, DType::i8, -1));
  QpoolParams* p = static_cast<QpoolParams*>(ctx.alloc->alloc(sizeof(QpoolParams)));
  if (!p) return fail(Code::out_of_memory, "%s: qpool: out of memory", ctx.loc);
  *p = {};
  IRK_TRY(read_pool_shape(ctx, false, true, &p->shape));
  float sx, sy;
  int64_t zx, zy;
  IRK_TRY(ctx.attr_f32("sx", &sx));
  IRK_TRY(ctx.attr_f32("sy", &sy));
  IRK_TRY(ctx.attr_int("zx", -128, 127, &zx));
  IRK_TRY(ctx.attr_int("zy", -128, 127, &zy));
  if (!isfinite(sx) || !isfinite(sy) || sx <= 0 || sy <= 0 ||
      !isfinite(static_cast<float>(static_cast<double>(sx) / sy)))
    return fail(Code::bad_file, "%s: qpool: scales out of range", ctx.loc);
  p->sx = static_cast<double>(sx);
  p->sy = static_cast<double>(sy);
  p->zx = static_cast<int32_t>(zx);
  p->zy = static_cast<int32_t>(zy);
  const PoolShape& s = p->shape;
  int64_t most_h = 1, most_w = 1, taps;
  for (int64_t i = 0; i < s.oh; i++) most_h = s.rows[i].count > most_h ? s.rows[i].count : most_h;
  for (int64_t i = 0; i < s.ow; i++) most_w = s.cols[i].count > most_w ? s.cols[i].count : most_w;
  if (!mul_ok(most_h, most_w, &taps) || taps > (1 << 23))  // sums of up to 255 a tap stay within int32
    return fail(Code::unsupported, "%s: qpool: window too large for exact sums", ctx.loc);

  const KernelRow* row = pick_kernel("qpool", "s8", ctx.isa);
  if (!row) return fail(Code::internal, "%s: qpool: no kernel", ctx.loc);
  step->fn = row->fn;
  step->params = p;
  step->items = ctx.out[0]->count / s.inner * ((s.inner + kQpoolBlock - 1) / kQpoolBlock);
  step->grain = 16384 / ((taps + 1) * (s.inner < kQpoolBlock ? s.inner : kQpoolBlock)) + 1;
  step->band = s.band;
  step->band.items = s.ow * ((s.inner + kQpoolBlock - 1) / kQpoolBlock);
  step->kernel = IRK_KERNEL_NAME("qpool.avg", row);
  return {};
}

}  // namespace irk
