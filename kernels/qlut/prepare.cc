// Inputs: x i8, table i8[256] or i8[C, 256]; attr axis (of the channels in memory) for the latter.
#include "qlut/qlut.h"

#include <string.h>

#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {

Status irk_prepare_qlut(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_in != 2 || ctx.n_out != 1) return fail(Code::bad_file, "%s: qlut: two inputs, one output", ctx.loc);
  IRK_TRY(ctx.want_in(0, DType::i8, -1));
  IRK_TRY(ctx.want_in(1, DType::i8, -1));
  IRK_TRY(ctx.want_out(0, DType::i8, -1));
  const Tensor &x = *ctx.in[0], &table = *ctx.in[1];
  if (x.count != ctx.out[0]->count) return fail(Code::bad_file, "%s: qlut: shapes differ", ctx.loc);
  const bool one = table.rank == 1;
  int64_t channels = 1, inner = x.count;
  if (!one) {
    int64_t axis;
    IRK_TRY(ctx.attr_int("axis", 0, x.rank - 1, &axis));
    channels = x.dims[axis];
    inner = 1;
    for (int i = static_cast<int>(axis) + 1; i < x.rank; i++) inner *= x.dims[i];
  }
  if (!table.data || table.count != channels * 256 || (!one && (table.rank != 2 || table.dims[1] != 256)))
    return fail(Code::bad_file, "%s: qlut: needs %lld constant tables of 256 entries", ctx.loc,
                static_cast<long long>(channels));
  QlutParams* p = static_cast<QlutParams*>(ctx.alloc->alloc(sizeof(QlutParams)));
  uint8_t* t = static_cast<uint8_t*>(ctx.alloc->alloc(table.count));
  if (!p || !t) return fail(Code::out_of_memory, "%s: qlut: out of memory", ctx.loc);
  const uint8_t* from = static_cast<const uint8_t*>(table.data);
  for (int64_t c = 0; c < channels; c++) {
    memcpy(t + c * 256, from + c * 256 + 128, 128);  // q = 0..127 first: indexed by the unsigned byte
    memcpy(t + c * 256 + 128, from + c * 256, 128);
  }
  *p = {};
  p->n = x.count;
  p->block = 4096;
  p->channels = channels;
  p->inner = inner;
  p->tables = t;
  const KernelRow* row = pick_kernel("qlut", one ? "one" : "channel", ctx.isa);
  if (!row) return fail(Code::internal, "%s: qlut: no kernel", ctx.loc);
  step->fn = row->fn;
  step->in_place = 1;
  step->params = p;
  step->items = one ? (x.count + p->block - 1) / p->block : inner == 1 ? x.count / channels : x.count / inner;
  const int64_t per_item = one ? p->block : inner == 1 ? channels : inner;
  step->grain = 16384 / per_item + 1;
  step->kernel = one ? IRK_KERNEL_NAME("qlut.one", row) : IRK_KERNEL_NAME("qlut.channel", row);
  return {};
}

}  // namespace irk
