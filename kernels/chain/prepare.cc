// chain: a depthwise convolution with the convolution before it, the 1x1 convolution after it, or both, a few rows at a
// time: the wide tensors between them live in scratch instead of going through memory.
//
// Inputs: x; w, bias, slope of the first convolution; of the depthwise one; of the last one; residual of the last
// stage. Attributes: "a", "b", "c" with the attributes of the three steps (conv, dwconv, conv); "a" or "c" may be
// absent. Output rows are made in blocks. The first convolution, in blocks of its own, fills a ring of rows as the
// depthwise windows move down; at the start of a work item, rows that the item before has had are computed again. Each
// stage does what its own step would do, so the bits are the same.
//
// bands.cc, which runs int8 chains, lets any family be a stage and moves the rows that a window keeps. Rows of floats
// are four times as long: here the kernels know of the ring, and nothing is moved.
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

// Of a block of rows: so many pixels spread what a call costs; and a pair of wider rows shares loads (dwconv).
constexpr int64_t kPixels = 128, kPairPixels = 224;
// Bytes between the stages, of each thread: beyond, the second-level cache and the memory promise get tight.
#if defined(__x86_64__)
constexpr int64_t kBytes = 384 << 10;
#else
constexpr int64_t kBytes = 256 << 10;
#endif

enum ChainBuf { kX = 0, kA = 1, kB = 4, kC = 7, kResidual = 10, kOut = 11, kScratch = 12 };

struct ChainParams {
  PreparedStep a, b, c;   // fn null where absent
  int64_t n, blocks;      // blocks of output rows in an image
  int64_t pieces;         // work items of an image
  int64_t rows, a_rows;   // of such a block; of an item of the first convolution
  int64_t mid_h;          // rows of the first convolution's output
  int64_t step, pad;      // of the depthwise window, in rows
  int64_t need, ring;     // input rows of the windows of a block, and those that scratch holds
  int64_t b_items;        // of a block of the depthwise convolution
  int64_t row, step_mem;  // scratch offsets in bytes; the ring is at 0
};

void run_chain(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const ChainParams& p = *static_cast<const ChainParams*>(params);
  char* scratch = static_cast<char*>(bufs[kScratch]);
  void *ring = scratch, *row = scratch + p.row, *own = scratch + p.step_mem;
  const bool has_a = p.a.fn, has_c = p.c.fn;
  void* a[] = {bufs[kX], nullptr, nullptr, nullptr, nullptr, ring, own};
  void* b[] = {has_a ? ring : bufs[kX], nullptr, nullptr, nullptr, nullptr, has_c ? row : bufs[kOut], own};
  void* c[] = {row, nullptr, nullptr, bufs[kResidual], nullptr, bufs[kOut], own};
  int64_t image = -1, next = 0;  // the ring holds the rows of `image` before `next` that the windows still need
  for (int64_t item = begin; item < end; item++) {
    const int64_t piece = item % p.pieces, n = item / p.pieces;
    if (n != image) image = n, next = 0;
    for (int64_t i = piece * p.blocks / p.pieces; i < (piece + 1) * p.blocks / p.pieces; i++) {
      if (has_a) {
        const int64_t top = max64(i * p.rows * p.step - p.pad, 0);
        const int64_t stop = min64(i * p.rows * p.step - p.pad + p.need, p.mid_h);
        for (next = max64(next, top / p.a_rows * p.a_rows); next < stop; next += p.a_rows) {
          const int64_t at = (n * p.mid_h + next) / p.a_rows;
          p.a.fn(a, p.a.params, at, at + 1);
        }
      }
      const int64_t at = n * p.blocks + i;
      p.b.fn(b, p.b.params, at * p.b_items, (at + 1) * p.b_items);
      if (has_c) p.c.fn(c, p.c.params, at, at + 1);
    }
  }
}

// The largest divisor of h that is no more than `most`, but at least 1.
int64_t divisor(int64_t h, int64_t most) {
  int64_t d = max64(1, min64(h, most));
  while (h % d) d--;
  return d;
}

int64_t most_rows(int64_t w) { return min64(kPairPixels / w, max64(2, kPixels / w)); }

// Rows of the blocks of all stages and of the ring: no more than kBytes allow and threads can share evenly.
void choose_blocks(const ConvShape& s, int threads, bool has_a, bool has_c, ChainParams* p) {
  const int64_t span = (s.kh - 1) * s.dilation[0] + 1;
  for (int64_t most = most_rows(s.ow);; most = p->rows - 1) {
    p->rows = divisor(s.oh, most);
    p->need = (p->rows - 1) * s.stride[0] + span;
    p->a_rows = divisor(s.ih, min64(p->rows * s.stride[0], most_rows(s.iw)));
    // What is needed begins anywhere in a block of the first convolution, whose blocks are in the ring as a whole.
    p->ring = min64(round_up(p->need + p->a_rows - 1, p->a_rows), s.n * s.ih);
    const int64_t bytes = (has_a ? p->ring * s.iw : 0) + (has_c ? p->rows * s.ow : 0);
    p->blocks = s.oh / p->rows;
    const bool even = p->blocks % threads == 0 || p->blocks >= 8 * threads;
    if (p->rows == 1 || (even && bytes * s.ic * 4 <= kBytes)) return;
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
  choose_blocks(sb, ctx.threads, has_a, has_c, p);
  p->n = sb.n, p->mid_h = sb.ih;
  p->step = sb.stride[0], p->pad = sb.pad[0];
  sb.band = sc.band = p->rows;
  if (has_a) {
    sa.band = p->a_rows;
    sa.out_rows = sb.in_rows = p->ring;
    IRK_TRY(plan_conv(a, sa, &p->a));
  }
  if (has_c) sb.out_rows = p->rows;
  IRK_TRY(plan_dwconv(b, sb, &p->b, &p->b_items));
  if (has_c) {
    IRK_TRY(read_conv(c, &sc));
    if (sc.kh != 1 || sc.kw != 1 || sc.stride[0] != 1 || sc.stride[1] != 1 || sc.oh != sb.oh || sc.ow != sb.ow)
      return fail(Code::bad_file, "%s: the last stage of a chain must be a 1x1 convolution", ctx.loc);
    sc.band = sc.in_rows = p->rows;
    IRK_TRY(plan_conv(c, sc, &p->c));
  }
  p->pieces = ctx.threads > 1 ? min64(p->blocks, 2 * ctx.threads) : 1;
  const int64_t ring = has_a ? round_up(p->ring * sb.iw * sb.ic * 4, 64) : 0;
  const int64_t row = has_c ? round_up(p->rows * sb.ow * sb.oc * 4, 64) : 0;
  p->row = ring;
  p->step_mem = ring + row;
  out->fn = run_chain;
  if (p->c.in_place >> kConvResidual & 1) out->in_place = uint64_t{1} << kResidual;
  out->params = p;
  out->items = p->n * p->pieces;
  out->grain = 1;
  out->grains = p->a.grains + p->b.grains + p->c.grains;
  out->scratch = ring + row + max64(p->a.scratch, max64(p->b.scratch, p->c.scratch));
  out->kernel = IRK_KERNEL_NAME("chain.f32", pick_kernel("dwconv", "f32", ctx.isa));
  return {};
}

}  // namespace irk
