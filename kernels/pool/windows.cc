#include "base/ints.h"
#include "pool/windows.h"

namespace irk {
namespace {

constexpr int64_t kMaxAttr = int64_t{1} << 30;

struct Side {
  int64_t size, out, kernel, stride, before, after, dilation, ceil;
  bool include_pad;
};

PoolWindow window(const Side& s, int64_t i) {
  const int64_t start = i * s.stride - s.before;  // of the window's first tap; may lie in the padding
  const int64_t k0 = start < 0 ? ceil_div(-start, s.dilation) : 0;
  const int64_t k1 = s.size - start <= 0 ? 0 : ceil_div(s.size - start, s.dilation);
  PoolWindow w;
  w.count = (k1 < s.kernel ? k1 : s.kernel) - k0;
  if (w.count < 0) w.count = 0;
  w.first = w.count ? start + k0 * s.dilation : 0;
  const int64_t end = start + s.kernel < s.size + s.after ? start + s.kernel : s.size + s.after;
  w.divisor = s.include_pad ? end - start : w.count;
  return w;
}

Status table(const StepContext& ctx, const Side& s, bool adaptive, bool average, const PoolWindow** out) {
  PoolWindow* t = static_cast<PoolWindow*>(ctx.alloc->alloc(s.out * static_cast<int64_t>(sizeof(PoolWindow))));
  if (!t) return fail(Code::out_of_memory, "%s: pool: out of memory", ctx.loc);
  for (int64_t i = 0; i < s.out; i++) {
    if (adaptive) {
      int64_t scaled;
      if (!mul_ok(i + 1, s.size, &scaled)) return fail(Code::bad_file, "%s: pool: size overflow", ctx.loc);
      t[i].first = i * s.size / s.out;
      t[i].count = ceil_div(scaled, s.out) - t[i].first;
      t[i].divisor = t[i].count;
    } else {
      t[i] = window(s, i);
    }
    if (average ? t[i].divisor < 1 : t[i].count < 1)
      return fail(Code::bad_file, "%s: pool: window %lld holds nothing", ctx.loc, static_cast<long long>(i));
  }
  *out = t;
  return {};
}

}  // namespace

Status read_pool_shape(const StepContext& ctx, bool adaptive, bool average, PoolShape* p) {
  const Tensor &x = *ctx.in[0], &y = *ctx.out[0];
  if (x.rank < 2 || x.rank != y.rank) return fail(Code::bad_file, "%s: pool: ranks differ", ctx.loc);
  int64_t axis;
  IRK_TRY(ctx.attr_int("axis", 0, x.rank - 2, &axis));
  p->outer = p->inner = 1;
  for (int i = 0; i < x.rank; i++) {
    if (i == axis || i == axis + 1) continue;
    if (x.dims[i] != y.dims[i]) return fail(Code::bad_file, "%s: pool: axis %d differs from the input's", ctx.loc, i);
    (i < axis ? p->outer : p->inner) *= x.dims[i];
  }
  p->h = x.dims[axis];
  p->w = x.dims[axis + 1];
  p->oh = y.dims[axis];
  p->ow = y.dims[axis + 1];
  int64_t kernel[2] = {1, 1}, strides[2] = {1, 1}, pads[4] = {}, dilation[2] = {1, 1}, ceil[2] = {}, include = 0;
  if (!adaptive) {
    IRK_TRY(ctx.attr_ints("kernel", 2, 1, kMaxAttr, kernel));
    IRK_TRY(ctx.attr_ints("strides", 2, 1, kMaxAttr, strides));
    IRK_TRY(ctx.attr_ints("pads", 4, 0, kMaxAttr, pads));
    if (average) {
      IRK_TRY(ctx.attr_ints("ceil", 2, 0, kMaxAttr, ceil));
      IRK_TRY(ctx.attr_int("include_pad", 0, 1, &include));
    } else {
      IRK_TRY(ctx.attr_ints("dilation", 2, 1, kMaxAttr, dilation));
    }
  }
  p->dil_h = dilation[0];
  p->dil_w = dilation[1];
  for (int k = 0; k < 2; k++) {
    const Side s = {k ? p->w : p->h, k ? p->ow : p->oh, kernel[k], strides[k],  pads[k],
                    pads[k + 2],     dilation[k],       ceil[k],   include != 0};
    if (!adaptive) {
      int64_t span, room, extent;
      if (!mul_ok(s.dilation, s.kernel - 1, &span) || !add_ok(s.size, s.before + s.after + s.ceil, &extent))
        return fail(Code::bad_file, "%s: pool: size overflow", ctx.loc);
      room = extent - span - 1;
      if (room < 0 || room / s.stride + 1 != s.out)
        return fail(Code::bad_file, "%s: pool: the windows do not give %lld outputs", ctx.loc,
                    static_cast<long long>(s.out));
    }
    IRK_TRY(table(ctx, s, adaptive, average, k ? &p->cols : &p->rows));
  }
  p->band = Band();
  if (ctx.band_rows > 0 && !adaptive && x.rank == 4 && axis == 1 && p->outer == 1)
    p->band = {1, 0, strides[0], pads[0], (kernel[0] - 1) * dilation[0] + 1};
  return {};
}

}  // namespace irk
