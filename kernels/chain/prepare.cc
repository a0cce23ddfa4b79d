// chain: a depthwise convolution with the convolution before it, the 1x1 convolution after it, or both, row by row: the
// wide tensors between them live in a few rows of scratch instead of going through memory.
//
// Inputs: x; w, bias, slope of the first convolution; of the depthwise one; of the last one; residual of the last
// stage. Attributes: "a", "b", "c" with the attributes of the three steps (conv, dwconv, conv); "a" or "c" may be
// absent. A work item is a band of output rows. The first convolution fills a ring of rows as the depthwise window
// moves down; at the start of a band the rows that the band before has had are computed again. Each stage does what its
// own step would do, so the bits are the same.
#include <string.h>

#include "base/ints.h"
#include "base/json.h"
#include "chain/bands.h"
#include "conv/conv.h"
#include "conv/plan.h"
#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {

namespace {

enum ChainBuf { kX = 0, kA = 1, kB = 4, kC = 7, kResidual = 10, kOut = 11, kScratch = 12 };

struct ChainParams {
  PreparedStep a, b, c;  // fn null where absent
  int64_t n, oh, bands;
  int64_t mid_h;                // rows of the first convolution's output
  int64_t step, pad, span;      // of the depthwise window, in rows
  int64_t b_blocks;             // items of a row of the depthwise convolution
  int64_t ring, row, step_mem;  // scratch offsets in bytes
};

void run_chain(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const ChainParams& p = *static_cast<const ChainParams*>(params);
  char* scratch = static_cast<char*>(bufs[kScratch]);
  void *ring = scratch + p.ring, *row = scratch + p.row, *own = scratch + p.step_mem;
  const bool has_a = p.a.fn, has_c = p.c.fn;
  void* a[] = {bufs[kX], nullptr, nullptr, nullptr, nullptr, ring, own};
  void* b[] = {has_a ? ring : bufs[kX], nullptr, nullptr, nullptr, nullptr, has_c ? row : bufs[kOut], own};
  void* c[] = {row, nullptr, nullptr, bufs[kResidual], nullptr, bufs[kOut], own};
  int64_t image = -1, next = 0;  // the ring holds the rows of `image` before `next` that the window still needs
  for (int64_t item = begin; item < end; item++) {
    const int64_t band = item % p.bands, n = item / p.bands;
    if (n != image) image = n, next = 0;
    for (int64_t i = band * p.oh / p.bands; i < (band + 1) * p.oh / p.bands; i++) {
      const int64_t top = i * p.step - p.pad;
      if (has_a) {
        const int64_t stop = min64(top + p.span, p.mid_h);
        for (next = max64(next, top); next < stop; next++)
          p.a.fn(a, p.a.params, n * p.mid_h + next, n * p.mid_h + next + 1);
      }
      const int64_t at = n * p.oh + i;
      p.b.fn(b, p.b.params, at * p.b_blocks, (at + 1) * p.b_blocks);
      if (has_c) p.c.fn(c, p.c.params, at, at + 1);
    }
  }
}

// The context of one stage: its attributes, tensors, and nothing else of the chain's.
StepContext stage(const StepContext& ctx, const char* key, int first, const Tensor* x, const Tensor* y) {
  StepContext s = ctx;
  s.attrs = ctx.attrs->get(key);
  s.n_in = kConvOut;
  s.n_out = 1;
  s.in[kConvX] = x;
  s.in[kConvW] = ctx.in[first];
  s.in[kConvBias] = ctx.in[first + 1];
  s.in[kConvResidual] = nullptr;
  s.in[kConvSlope] = ctx.in[first + 2];
  s.out[0] = y;
  return s;
}

// The shape that a convolution stage gives, [n, oh, ow, oc]; checked by read_conv later on.
Status stage_output(StepContext& s, Tensor* y) {
  IRK_TRY(s.want_in(kConvX, DType::f32, 4));
  IRK_TRY(s.want_in(kConvW, DType::f32, 4));
  int64_t strides[2], dilation[2], pads[4];
  constexpr int64_t kMax = 1 << 24;
  IRK_TRY(s.attr_ints("strides", 2, 1, kMax, strides));
  IRK_TRY(s.attr_ints("dilation", 2, 1, kMax, dilation));
  IRK_TRY(s.attr_ints("pads", 4, 0, kMax, pads));
  const Tensor &x = *s.in[kConvX], &w = *s.in[kConvW];
  const int64_t* in = x.dims + (s.has("planar") ? 2 : 1);
  *y = {};
  y->dtype = DType::f32;
  y->rank = 4;
  y->dims[0] = x.dims[0];
  y->dims[3] = w.dims[0];
  y->count = x.dims[0];
  for (int i = 0; i < 2; i++) {
    if (in[i] > kMax || w.dims[i + 1] > kMax) return fail(Code::unsupported, "%s: extent too large", s.loc);
    y->dims[i + 1] = conv_extent(in[i], pads[i] + pads[i + 2], w.dims[i + 1], strides[i], dilation[i]);
    if (y->dims[i + 1] < 1) return fail(Code::bad_file, "%s: a window of the chain does not fit", s.loc);
  }
  for (int i = 1; i < 4; i++)
    if (!mul_ok(y->count, y->dims[i], &y->count)) return fail(Code::bad_file, "%s: chain too large", s.loc);
  if (!mul_ok(y->count, 4, &y->bytes)) return fail(Code::bad_file, "%s: chain too large", s.loc);
  return {};
}

}  // namespace

Status irk_prepare_chain(StepContext& ctx, PreparedStep* out) {
  if (ctx.has("stages")) return prepare_bands(ctx, out);
  IRK_TRY(want_inputs(ctx, kOut));
  IRK_TRY(ctx.want_in(kX, DType::f32, 4));
  IRK_TRY(ctx.want_out(0, DType::f32, 4));
  const bool has_a = ctx.has("a"), has_c = ctx.has("c");
  if (!ctx.has("b") || !(has_a || has_c)) return fail(Code::bad_file, "%s: chain without its stages", ctx.loc);
  if (ctx.in[kResidual] && !has_c) return fail(Code::bad_file, "%s: chain residual without its stage", ctx.loc);
  auto* p = static_cast<ChainParams*>(ctx.alloc->alloc(sizeof(ChainParams)));
  if (!p) return fail(Code::out_of_memory, "%s: no memory for a chain", ctx.loc);
  *p = {};
  Tensor mid = *ctx.in[kX], thin = *ctx.out[0];
  mid.data = nullptr;
  StepContext a = stage(ctx, "a", kA, ctx.in[kX], &mid);
  StepContext b = stage(ctx, "b", kB, &mid, &thin);
  StepContext c = stage(ctx, "c", kC, &thin, ctx.out[0]);
  c.in[kConvResidual] = ctx.in[kResidual];
  ConvShape sa = {}, sb = {}, sc = {};
  if (has_a) {
    IRK_TRY(stage_output(a, &mid));
    IRK_TRY(read_conv(a, &sa));
  }
  if (has_c) IRK_TRY(stage_output(b, &thin));
  IRK_TRY(read_conv(b, &sb));
  p->n = sb.n, p->oh = sb.oh, p->mid_h = sb.ih;
  p->step = sb.stride[0], p->pad = sb.pad[0], p->span = (sb.kh - 1) * sb.dilation[0] + 1;
  sa.by_row = sb.by_row = sc.by_row = true;
  if (has_a) {
    sa.out_rows = sb.in_rows = min64(p->span, sb.n * sb.ih);
    IRK_TRY(plan_conv(a, sa, &p->a));
  }
  if (has_c) sb.out_rows = 1;
  IRK_TRY(plan_dwconv(b, sb, &p->b, &p->b_blocks));
  if (has_c) {
    IRK_TRY(read_conv(c, &sc));
    if (sc.kh != 1 || sc.kw != 1 || sc.stride[0] != 1 || sc.stride[1] != 1 || sc.oh != sb.oh || sc.ow != sb.ow)
      return fail(Code::bad_file, "%s: the last stage of a chain must be a 1x1 convolution", ctx.loc);
    sc.by_row = true;
    sc.in_rows = 1;
    IRK_TRY(plan_conv(c, sc, &p->c));
  }
  p->bands = ctx.threads > 1 ? min64(p->oh, 2 * ctx.threads) : 1;
  const int64_t ring = has_a ? round_up(sa.out_rows * sb.iw * sb.ic * 4, 64) : 0;
  const int64_t row = has_c ? round_up(sb.ow * sb.oc * 4, 64) : 0;
  p->ring = 0;
  p->row = ring;
  p->step_mem = ring + row;
  out->fn = run_chain;
  out->params = p;
  out->items = p->n * p->bands;
  out->grain = 1;
  out->grains = p->a.grains + p->b.grains + p->c.grains;
  out->scratch = ring + row + max64(p->a.scratch, max64(p->b.scratch, p->c.scratch));
  out->kernel = IRK_KERNEL_NAME("chain.f32", pick_kernel("dwconv", "f32", ctx.isa));
  return {};
}

}  // namespace irk
