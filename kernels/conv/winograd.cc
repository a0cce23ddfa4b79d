// Plans a convolution by Winograd's method (conv/winograd.h).
#include "conv/winograd.h"

#include <string.h>

#include "base/ints.h"
#include "base/turn.h"
#include "base/vec_scalar.h"
#include "conv/plan.h"
#include "conv/winograd_filter.h"
#include "runtime/kernel_name.h"

namespace irk {

namespace {

constexpr int64_t kHeld = 256 << 10;  // bytes of transformed weights that are made when a model is loaded
constexpr int64_t kWhole = 1 << 20;   // and of those that a call may make at once
constexpr int64_t kInputs =
    512 << 10;                 // bytes of transformed input in a work item; twice that if weights come in panels
constexpr int64_t kLine = 16;  // floats of a cache line

// Four filters.
struct Four {
  static constexpr int N = 4;
  typedef float F __attribute__((vector_size(16)));
  static F load(const float* p) {
    F v;
    memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(float* p, F v) { memcpy(p, &v, sizeof v); }
  static F set(float v) { return F{v, v, v, v}; }
  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
};

template <class V>
void transform(int64_t tile, const float* g, int64_t gs, float* u, int64_t us) {
  if (tile == 4)
    transform_filter<V, 4>(g, gs, u, us);
  else
    transform_filter<V, 2>(g, gs, u, us);
}

// Transformed filters of `n` channels, no more than four, from `w` on: lanes 0 to 3 of `dst` and what lies `width`
// floats after them.
void pack_held(const WinogradParams& p, const float* w, int64_t n, int64_t width, float* dst) {
  constexpr int64_t kInputs = 16;  // input channels at a time
  float g[9 * kInputs * Four::N] = {};
  for (int64_t k0 = 0; k0 < p.ic; k0 += kInputs) {
    const int64_t count = min64(kInputs, p.ic - k0);
    for (int64_t i = 0; i < 9; i++)
      turn_words(w + i * p.ic + k0, 9 * p.ic * 4, n, count, g + i * kInputs * Four::N, Four::N * 4);
    for (int64_t k = 0; k < count; k++) {
      const float* const filters = g + k * Four::N;
      float* const out = dst + (k0 + k) * width;
      if (width % Four::N == 0) {
        transform<Four>(p.tile, filters, kInputs * Four::N, out, p.ic * width);
      } else {
        for (int64_t c = 0; c < n; c++)
          transform<VecScalar>(p.tile, filters + c, kInputs * Four::N, out + c, p.ic * width);
      }
    }
  }
}

void pack_weights(const WinogradParams& p, int lanes, const float* w, float* dst) {
  const int64_t kept = p.held ? (p.tile + 2) * (p.tile + 2) : 9, row = 9 * p.ic;
  for (int64_t q = 0; q < p.panels; q++) {
    const int64_t c0 = q * p.nvec / p.panels * lanes, width = (q + 1) * p.nvec / p.panels * lanes - c0;
    const int64_t n = min64(width, p.oc - c0);
    if (n < width) memset(dst, 0, static_cast<size_t>(kept * p.ic * width) * 4);
    if (p.held)
      for (int64_t c = 0; c < n; c += Four::N) pack_held(p, w + (c0 + c) * row, min64(n - c, 4), width, dst + c);
    else
      for (int64_t i = 0; i < 9; i++)
        turn_words(w + c0 * row + i * p.ic, row * 4, n, p.ic, dst + i * width, 9 * width * 4);
    dst += kept * p.ic * width;
  }
}

float* zeros(StepContext& ctx, int64_t count) {
  auto* p = static_cast<float*>(ctx.alloc->alloc(count * 4));
  if (p) memset(p, 0, static_cast<size_t>(count * 4));
  return p;
}

}  // namespace

Status plan_winograd(StepContext& ctx, const ConvShape& s, int64_t tile, PreparedStep* out) {
  if (tile != 2 && tile != 4)
    return fail(Code::bad_file, "%s: winograd is %lld, expected 2 or 4", ctx.loc, (long long)tile);
  if (s.kh != 3 || s.kw != 3 || s.groups != 1 || s.stride[0] != 1 || s.stride[1] != 1 || s.dilation[0] != 1 ||
      s.dilation[1] != 1)
    return fail(Code::bad_file, "%s: winograd needs 3x3 filters of stride 1 without dilation or groups", ctx.loc);
  const KernelRow* row = pick_kernel("conv", "winograd", ctx.isa);
  if (!row) return fail(Code::internal, "%s: no conv kernel", ctx.loc);
  const ConvTiles& tiles = tiles_of(row->isa);
  const int64_t edge = tile + 2, positions = edge * edge;
  const Status oom = fail(Code::out_of_memory, "%s: no memory for transformed weights", ctx.loc);
  auto* p = static_cast<WinogradParams*>(ctx.alloc->alloc(sizeof(WinogradParams)));
  if (!p) return oom;
  *p = {};
  p->tile = tile;
  p->ih = s.ih, p->iw = s.iw, p->ic = s.ic;
  p->oh = s.oh, p->ow = s.ow, p->oc = s.oc;
  p->pad[0] = s.pad[0], p->pad[1] = s.pad[1];
  p->tiles_h = ceil_div(s.oh, tile), p->tiles_w = ceil_div(s.ow, tile);
  p->tiles = s.n * p->tiles_h * p->tiles_w;
  const float* slopes;
  IRK_TRY(read_act(ctx, ctx.in[kConvSlope], s.oc, &p->act, &slopes));

  // Blocks of tiles whose transformed input stays in the cache. Transformed weights take 1.8 or 4 times the memory of
  // the weights, so only small ones are held; others are made in each call, once or for each block of tiles.
  p->nvec = ceil_div(s.oc, tiles.lanes);
  p->v_row = ceil_div(s.ic, tiles.lanes) * tiles.lanes;
  const int64_t padded = p->nvec * tiles.lanes;
  const int64_t weights = positions * s.ic * padded * 4, each = positions * p->v_row * 4;
  p->held = weights <= kHeld;
  p->whole = !p->held && weights <= kWhole && p->nvec <= 64 && p->tiles * each > kInputs;
  const bool near = p->held || p->whole;
  int64_t block = max64(1, (near ? 1 : 2) * kInputs / each);
  if (ctx.threads > 1 && near) block = min64(block, ceil_div(p->tiles, 4 * ctx.threads));
  p->mblocks = ceil_div(p->tiles, block);
  block = ceil_div(p->tiles, p->mblocks);
  p->prefetch = tiles.prefetch && !near;
  const int64_t width = choose_width(tiles, block, s.ic, p->nvec, p->prefetch);
  p->panels = ceil_div(p->nvec, width);
  const int64_t widest = ceil_div(p->nvec, p->panels);
  p->max_rows = tiles.rows[widest];
  const int64_t want = ctx.threads > 1 ? 4 * ctx.threads : 1;
  p->nblocks = p->mblocks >= want ? 1 : min64(p->panels, ceil_div(want, p->mblocks));
  // A cache line more, so that not all positions fall into one set of the cache.
  p->v_step = block * p->v_row + kLine;
  p->w_step = s.ic * widest * tiles.lanes + kLine;
  p->m_step = block * widest * tiles.lanes + kLine;

  float* bias = zeros(ctx, padded);
  p->zero = zeros(ctx, max64(s.ic, widest * tiles.lanes));
  auto* w = static_cast<float*>(ctx.alloc->alloc(max64((p->held ? positions : 9) * s.ic * padded, 1) * 4));
  if (!bias || !p->zero || !w) return oom;
  if (ctx.in[kConvBias]) memcpy(bias, ctx.in[kConvBias]->data, static_cast<size_t>(s.oc * 4));
  p->bias = bias;
  if (slopes) {
    float* slope = zeros(ctx, padded);
    if (!slope) return oom;
    memcpy(slope, slopes, static_cast<size_t>(s.oc * 4));
    p->slope = slope;
  }
  pack_weights(*p, tiles.lanes, static_cast<const float*>(ctx.in[kConvW]->data), w);
  p->w = w;

  const double item_macs = 1.0 + static_cast<double>(block * positions) * static_cast<double>(s.ic * s.oc / p->nblocks);
  out->fn = row->fn;
  out->in_place = residual_in_place();
  out->params = p;
  out->items = p->mblocks * p->nblocks;
  out->grain = 1 + static_cast<int64_t>(100000 / item_macs);
  const int64_t made = p->held ? 0 : p->whole ? p->panels : 1;
  out->scratch = positions * (p->v_step + p->m_step + made * p->w_step) * 4;
  out->kernel = IRK_KERNEL_NAME("conv.winograd", row);
  return {};
}

}  // namespace irk
