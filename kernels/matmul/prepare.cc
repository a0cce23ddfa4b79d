// matmul: a, b f32, c f32 stored as [batch..., m, n]. Attributes: m, n, k; batch (dims, up to 6);
// a_strides, b_strides: in elements, one per batch dim (0 where broadcast), then of m and k (a) or k and n (b).
#include "matmul/matmul.h"

#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {
namespace {

using matmul::kMaxBatch;

// The last element that strides reach must exist.
Status check_reach(StepContext& ctx, int input, const int64_t* dims, const int64_t* strides, int n) {
  int64_t last = 0;
  for (int i = 0; i < n; ++i) {
    int64_t step;
    if (!mul_ok(dims[i] - 1, strides[i], &step) || !add_ok(last, step, &last)) last = INT64_MAX;
  }
  if (last < ctx.in[input]->count) return Status();
  return fail(Code::bad_file, "%s: matmul strides of input %d reach element %lld of %lld", ctx.loc, input,
              static_cast<long long>(last), static_cast<long long>(ctx.in[input]->count));
}

}  // namespace

Status irk_prepare_matmul(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_in != 2 || ctx.n_out != 1) return fail(Code::bad_file, "%s: matmul wants two inputs, one output", ctx.loc);
  IRK_TRY(ctx.want_in(0, DType::f32, -1));
  IRK_TRY(ctx.want_in(1, DType::f32, -1));
  IRK_TRY(ctx.want_out(0, DType::f32, -1));
  int64_t m = 0, n = 0, k = 0, dims[kMaxBatch + 2], a[kMaxBatch + 2], b[kMaxBatch + 2];
  int nb = 0;
  IRK_TRY(ctx.attr_int("m", 1, INT32_MAX, &m));
  IRK_TRY(ctx.attr_int("n", 1, INT32_MAX, &n));
  IRK_TRY(ctx.attr_int("k", 1, INT32_MAX, &k));
  IRK_TRY(ctx.attr_ints_n("batch", kMaxBatch, 1, INT32_MAX, dims, &nb));
  IRK_TRY(ctx.attr_ints("a_strides", nb + 2, 0, INT64_MAX, a));
  IRK_TRY(ctx.attr_ints("b_strides", nb + 2, 0, INT64_MAX, b));
  int64_t count = m, batches = 1;
  bool fits = mul_ok(count, n, &count);
  for (int i = 0; i < nb; ++i) {
    fits = fits && mul_ok(count, dims[i], &count);
    if (fits) batches *= dims[i];
  }
  if (!fits || count != ctx.out[0]->count) {
    return fail(Code::bad_file, "%s: matmul dims do not give the output's %lld elements", ctx.loc,
                static_cast<long long>(ctx.out[0]->count));
  }
  dims[nb] = m;
  dims[nb + 1] = k;
  IRK_TRY(check_reach(ctx, 0, dims, a, nb + 2));
  dims[nb] = k;
  dims[nb + 1] = n;
  IRK_TRY(check_reach(ctx, 1, dims, b, nb + 2));

  matmul::Params* p = static_cast<matmul::Params*>(ctx.alloc->alloc(sizeof(matmul::Params)));
  if (!p) return fail(Code::out_of_memory, "%s: matmul parameters", ctx.loc);
  *p = {};
  p->m = m;
  p->n = n;
  p->k = k;
  p->a_row = a[nb];
  p->a_col = a[nb + 1];
  p->b_row = b[nb];
  p->b_col = b[nb + 1];
  p->n_batch = nb;
  for (int i = 0; i < nb; ++i) {
    p->batch[i] = dims[i];
    p->a_batch[i] = a[i];
    p->b_batch[i] = b[i];
  }
  const KernelRow* row = pick_kernel("matmul", "f32", ctx.isa);
  p->panels = (n + row->nr - 1) / row->nr;
  // Rows are split only when there are too few panels to go round.
  const int64_t want = 8 / (batches * p->panels) + 1;
  p->block_rows = ((m + want - 1) / want + row->mr - 1) / row->mr * row->mr;
  p->blocks = (m + p->block_rows - 1) / p->block_rows;
  int64_t scratch;
  if (!mul_ok(k, row->nr * 4, &scratch)) return fail(Code::bad_file, "%s: matmul is too large", ctx.loc);
  step->fn = row->fn;
  step->params = p;
  step->items = batches * p->panels * p->blocks;
  step->grain = 65536 / (p->block_rows * k * row->nr) + 1;
  step->grains = static_cast<double>(step->items) * static_cast<double>(p->block_rows * k * row->nr) / 200000;
  step->scratch = scratch;
  step->kernel = IRK_KERNEL_NAME("matmul.f32", row);
  return Status();
}

}  // namespace irk
