// spmm: x f32 [..., K], values f32 [nnz], columns i32, or gaps u8 or i16, [nnz], rows i32 [O + 1] (CSR of [O, K],
// constants), bias [O]?, residual?, slope [O or 1]?; y f32 [..., O]. Attributes: act as in conv.
#include "spmm/spmm.h"

#include <string.h>

#include "base/ints.h"
#include "conv/plan.h"
#include "runtime/kernel_name.h"

namespace irk {

namespace {

constexpr int64_t kBlockBytes = 256 << 10;  // of the transposed block: well inside a second-level cache

// Reads the columns of the non-zeros into `out`: int32 as they are; uint8 and int16 as gaps, the number of zeros since
// the previous non-zero of the row. Every index of the file is checked here; the kernel trusts them.
Status read_columns(StepContext& ctx, int64_t o, int64_t k, int64_t segments, uint16_t* out, int32_t* begin) {
  const Tensor &columns = *ctx.in[kSpmmColumns], &rows = *ctx.in[kSpmmRows];
  const auto* at = static_cast<const int32_t*>(rows.data);
  for (int64_t r = 0; r < o; r++) {
    if (at[r + 1] < at[r] || at[r + 1] > at[o])  // `out` holds at[o] weights
      return fail(Code::bad_file, "%s: sparse row %lld has a bad range", ctx.loc, (long long)r);
    int64_t last = -1, segment = 0;
    *begin++ = at[r];
    for (int32_t i = at[r]; i < at[r + 1]; i++) {
      int64_t col;
      if (columns.dtype == DType::u8)
        col = last + 1 + static_cast<const uint8_t*>(columns.data)[i];
      else if (columns.dtype == DType::i16)
        col = last + 1 + static_cast<const int16_t*>(columns.data)[i];
      else
        col = static_cast<const int32_t*>(columns.data)[i];
      if (col <= last || col >= k)
        return fail(Code::bad_file, "%s: sparse row %lld has a bad column", ctx.loc, (long long)r);
      for (; segment < col / kSpmmSegment; segment++) *begin++ = i;
      out[i] = static_cast<uint16_t>(col % kSpmmSegment);
      last = col;
    }
    for (; segment < segments - 1; segment++) *begin++ = at[r + 1];
  }
  *begin = at[o];
  return {};
}

}  // namespace

Status irk_prepare_spmm(StepContext& ctx, PreparedStep* out) {
  IRK_TRY(want_inputs(ctx, kSpmmOut));
  IRK_TRY(ctx.want_in(kSpmmX, DType::f32, -1));
  IRK_TRY(ctx.want_in(kSpmmValues, DType::f32, 1));
  const Tensor* c = ctx.n_in > kSpmmColumns ? ctx.in[kSpmmColumns] : nullptr;
  IRK_TRY(ctx.want_in(kSpmmColumns, c && (c->dtype == DType::u8 || c->dtype == DType::i16) ? c->dtype : DType::i32, 1));
  IRK_TRY(ctx.want_in(kSpmmRows, DType::i32, 1));
  IRK_TRY(ctx.want_out(0, DType::f32, -1));
  const Tensor &x = *ctx.in[kSpmmX], &y = *ctx.out[0];
  if (x.rank < 1 || y.rank != x.rank) return fail(Code::bad_file, "%s: spmm needs operands of equal rank", ctx.loc);
  const int64_t k = x.dims[x.rank - 1], o = y.dims[y.rank - 1], m = x.count / k;
  if (y.count / o != m) return fail(Code::bad_file, "%s: spmm output has a wrong shape", ctx.loc);
  if (!ctx.in[kSpmmValues]->data || !c->data || !ctx.in[kSpmmRows]->data)
    return fail(Code::bad_file, "%s: sparse weights must be constant", ctx.loc);
  if (ctx.in[kSpmmRows]->count != o + 1 || c->count != ctx.in[kSpmmValues]->count)
    return fail(Code::bad_file, "%s: sparse weights have inconsistent sizes", ctx.loc);
  IRK_TRY(want_vector(ctx, kSpmmBias, o, false));
  IRK_TRY(want_residual(ctx, kSpmmResidual));
  IRK_TRY(want_vector(ctx, kSpmmSlope, o, true));

  const KernelRow* row = pick_kernel("spmm", "f32", ctx.isa);
  if (!row) return fail(Code::internal, "%s: no spmm kernel", ctx.loc);
  const int64_t lanes = row->nr, padded = ceil_div(o, lanes) * lanes;
  const auto* values = static_cast<const float*>(ctx.in[kSpmmValues]->data);
  const auto* rows = static_cast<const int32_t*>(ctx.in[kSpmmRows]->data);
  const int64_t nnz = rows[o];
  if (rows[0] != 0 || nnz < 0 || nnz > c->count)
    return fail(Code::bad_file, "%s: sparse row starts do not span the values", ctx.loc);
  auto* p = static_cast<SpmmParams*>(ctx.alloc->alloc(sizeof(SpmmParams)));
  const int64_t segments = ceil_div(k, kSpmmSegment);
  auto* weights = static_cast<float*>(ctx.alloc->alloc(nnz * 4));
  auto* at = static_cast<uint16_t*>(ctx.alloc->alloc(nnz * 2));
  auto* begin = static_cast<int32_t*>(ctx.alloc->alloc((o * segments + 1) * 4));
  auto* bias = static_cast<float*>(ctx.alloc->alloc(o * 4));
  const Status oom = fail(Code::out_of_memory, "%s: no memory for sparse weights", ctx.loc);
  if (!p || !weights || !at || !begin || !bias) return oom;
  *p = {};
  IRK_TRY(read_columns(ctx, o, k, segments, at, begin));
  memcpy(weights, values, static_cast<size_t>(nnz * 4));
  memset(bias, 0, static_cast<size_t>(o * 4));
  if (ctx.in[kSpmmBias]) memcpy(bias, ctx.in[kSpmmBias]->data, static_cast<size_t>(o * 4));
  p->m = m, p->k = k, p->o = o;
  p->segments = segments, p->values = weights, p->columns = at, p->begin = begin, p->bias = bias;
  const float* slopes;
  IRK_TRY(read_act(ctx, ctx.in[kSpmmSlope], o, &p->act, &slopes));
  if (slopes) {
    auto* s = static_cast<float*>(ctx.alloc->alloc(padded * 4));
    if (!s) return oom;
    memset(s, 0, static_cast<size_t>(padded * 4));
    memcpy(s, slopes, static_cast<size_t>(o * 4));
    p->slope = s;
  }
  p->nvec = ceil_div(m, lanes);
  const int64_t most = max64(1, min64(row->mr, kBlockBytes / (k * lanes * 4)));
  p->blocks = max64(ceil_div(p->nvec, most), min64(p->nvec, ctx.threads));
  const int64_t vectors = ceil_div(p->nvec, p->blocks);
  p->width = vectors * lanes;
  out->fn = row->fn;
  out->params = p;
  out->items = p->blocks;
  out->grains = static_cast<double>(nnz) * static_cast<double>(m) / 100000;
  out->grain = 1 + static_cast<int64_t>(static_cast<double>(p->blocks) / (out->grains + 1e-3));
  if (!mul_ok((k + lanes) * p->width, 4, &out->scratch)) return oom;
  out->kernel = IRK_KERNEL_NAME("spmm.f32", row);
  return {};
}

}  // namespace irk
