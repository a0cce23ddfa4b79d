// attrs: mode "nearest": inputs x, rows i32[OH], cols i32[OW]; any element type
//        mode "bilinear": inputs x f32, row0, row1, row_t, col0, col1, col_t (i32, i32, f32 each)
//        axis (of H in memory; W follows)
#include "resize/resize.h"

#include <string.h>

#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {
namespace {

// A constant of n entries, copied; indices must lie in [0, limit).
template <class T>
Status read_table(const StepContext& ctx, int input, DType dtype, int64_t n, int64_t limit, const T** out) {
  IRK_TRY(ctx.want_in(input, dtype, 1));
  const Tensor& t = *ctx.in[input];
  if (t.count != n || !t.data)
    return fail(Code::bad_file, "%s: resize: input %d: needs a constant of %lld entries", ctx.loc, input,
                static_cast<long long>(n));
  T* copy = static_cast<T*>(ctx.alloc->alloc(n * static_cast<int64_t>(sizeof(T))));
  if (!copy) return fail(Code::out_of_memory, "%s: resize: out of memory", ctx.loc);
  memcpy(copy, t.data, static_cast<size_t>(n) * sizeof(T));
  if (dtype == DType::i32)
    for (int64_t i = 0; i < n; i++)
      if (copy[i] < 0 || static_cast<int64_t>(copy[i]) >= limit)
        return fail(Code::bad_file, "%s: resize: input %d: index %lld is out of range", ctx.loc, input,
                    static_cast<long long>(i));
  *out = copy;
  return {};
}

}  // namespace

Status irk_prepare_resize(StepContext& ctx, PreparedStep* step) {
  const char* mode;
  IRK_TRY(ctx.attr_str("mode", &mode));
  const bool nearest = strcmp(mode, "nearest") == 0;
  if (!nearest && strcmp(mode, "bilinear") != 0) return fail(Code::bad_file, "%s: resize: unknown mode", ctx.loc);
  if (ctx.n_in != (nearest ? 3 : 7) || ctx.n_out != 1 || !ctx.in[0])
    return fail(Code::bad_file, "%s: resize: wrong number of operands", ctx.loc);
  const DType dtype = nearest ? ctx.in[0]->dtype : DType::f32;
  IRK_TRY(ctx.want_in(0, dtype, -1));
  IRK_TRY(ctx.want_out(0, dtype, -1));
  const Tensor &x = *ctx.in[0], &y = *ctx.out[0];
  if (x.rank < 2 || x.rank != y.rank) return fail(Code::bad_file, "%s: resize: ranks differ", ctx.loc);
  int64_t axis;
  IRK_TRY(ctx.attr_int("axis", 0, x.rank - 2, &axis));
  ResizeParams* p = static_cast<ResizeParams*>(ctx.alloc->alloc(sizeof(ResizeParams)));
  if (!p) return fail(Code::out_of_memory, "%s: resize: out of memory", ctx.loc);
  *p = {};
  p->outer = p->inner = 1;
  for (int i = 0; i < x.rank; i++) {
    if (i == axis || i == axis + 1) continue;
    if (x.dims[i] != y.dims[i]) return fail(Code::bad_file, "%s: resize: axis %d differs from the input's", ctx.loc, i);
    (i < axis ? p->outer : p->inner) *= x.dims[i];
  }
  p->n_in = ctx.n_in;
  p->h = x.dims[axis];
  p->w = x.dims[axis + 1];
  p->oh = y.dims[axis];
  p->ow = y.dims[axis + 1];
  IRK_TRY(read_table(ctx, 1, DType::i32, p->oh, p->h, &p->row0));
  if (nearest) {
    IRK_TRY(read_table(ctx, 2, DType::i32, p->ow, p->w, &p->col0));
  } else {
    IRK_TRY(read_table(ctx, 2, DType::i32, p->oh, p->h, &p->row1));
    IRK_TRY(read_table(ctx, 3, DType::f32, p->oh, 0, &p->row_t));
    IRK_TRY(read_table(ctx, 4, DType::i32, p->ow, p->w, &p->col0));
    IRK_TRY(read_table(ctx, 5, DType::i32, p->ow, p->w, &p->col1));
    IRK_TRY(read_table(ctx, 6, DType::f32, p->ow, 0, &p->col_t));
  }
  const int64_t size = dtype_size(dtype);
  const char* types = !nearest ? "bilinear" : size == 1 ? "b1" : size == 2 ? "b2" : size == 4 ? "b4" : "b8";
  const KernelRow* row = pick_kernel("resize", types, ctx.isa);
  if (!row) return fail(Code::internal, "%s: resize: no kernel", ctx.loc);
  step->fn = row->fn;
  step->params = p;
  step->items = p->outer * p->oh;
  step->grain = 16384 / (p->ow * p->inner * size) + 1;
  step->kernel = nearest ? IRK_KERNEL_NAME("resize.nearest", row) : IRK_KERNEL_NAME("resize.bilinear", row);
  return {};
}

}  // namespace irk
