// Plans a convolution by Winograd's method (conv/winograd.h).
#include "conv/winograd.h"

#include <string.h>

#include "conv/plan.h"
#include "runtime/kernel_name.h"

namespace irk {

namespace {

constexpr int64_t kHeld = 512 << 10;  // bytes of transformed input that one work item may hold
constexpr int64_t kNear = 512 << 10;  // weights of this size stay in a second-level cache
constexpr int kLanes = 16;            // filters that are transformed side by side
constexpr int64_t kLine = 16;         // floats of a cache line

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// One row or column of G g G^T, of kLanes filters: values are `gs` and `us` vectors apart.
void filter_line(int64_t tile, const float* g, int64_t gs, float* u, int64_t us) {
  gs *= kLanes, us *= kLanes;
  if (tile == 2) {
    for (int l = 0; l < kLanes; l++, g++, u++) {
      const float even = 0.5f * (g[0] + g[2 * gs]), odd = 0.5f * g[gs];
      u[0] = g[0];
      u[us] = even + odd;
      u[2 * us] = even - odd;
      u[3 * us] = g[2 * gs];
    }
    return;
  }
  constexpr double a = kWinoA, b = kWinoB, a2 = a * a, b2 = b * b, da = 2 * (a2 - b2), db = -da;
  constexpr float k0 = 1 / (a2 * b2), a0 = 1 / (da * a2), a1 = 1 / (da * a), aa = 1 / da, b0 = 1 / (db * b2),
                  b1 = 1 / (db * b), bb = 1 / db;
  for (int l = 0; l < kLanes; l++, g++, u++) {
    const float g0 = g[0], g1 = g[gs], g2 = g[2 * gs];
    const float ae = a0 * g0 + aa * g2, ao = a1 * g1, be = b0 * g0 + bb * g2, bo = b1 * g1;
    u[0] = k0 * g0;
    u[us] = ae + ao;
    u[2 * us] = ae - ao;
    u[3 * us] = be + bo;
    u[4 * us] = be - bo;
    u[5 * us] = g2;
  }
}

void pack_weights(const WinogradParams& p, int lanes, const float* w, float* dst) {
  const int64_t edge = p.tile + 2, row = 9 * p.ic;
  for (int64_t q = 0; q < p.panels; q++) {
    const int64_t c0 = q * p.nvec / p.panels * lanes, width = (q + 1) * p.nvec / p.panels * lanes - c0;
    for (int64_t c = 0; c < width; c += kLanes) {
      const int64_t used = min64(width - c, kLanes), full = max64(0, min64(p.oc - c0 - c, used));
      for (int64_t k = 0; k < p.ic; k++) {
        float g[9 * kLanes] = {}, half[18 * kLanes], u[36 * kLanes];
        const float* src = w + (c0 + c) * row + k;
        for (int64_t l = 0; l < full; l++, src += row)
          for (int64_t i = 0; i < 9; i++) g[i * kLanes + l] = src[i * p.ic];
        for (int64_t j = 0; j < 3; j++) filter_line(p.tile, g + j * kLanes, 3, half + j * kLanes, 3);
        for (int64_t i = 0; i < edge; i++) filter_line(p.tile, half + 3 * i * kLanes, 1, u + edge * i * kLanes, 1);
        float* out = dst + k * width + c;
        for (int64_t i = 0; i < edge * edge; i++, out += p.ic * width)
          memcpy(out, u + i * kLanes, static_cast<size_t>(used * 4));
      }
    }
    dst += edge * edge * p.ic * width;
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

  // Blocks of tiles whose transformed input stays in the cache.
  p->nvec = ceil_div(s.oc, tiles.lanes);
  p->v_row = ceil_div(s.ic, tiles.lanes) * tiles.lanes;
  const int64_t padded = p->nvec * tiles.lanes;
  int64_t block = max64(1, kHeld / (positions * p->v_row * 4));
  const bool near = positions * s.ic * padded * 4 <= kNear;
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
  p->m_step = block * widest * tiles.lanes + kLine;

  float* bias = zeros(ctx, padded);
  p->zero = zeros(ctx, max64(s.ic, widest * tiles.lanes));
  auto* w = static_cast<float*>(ctx.alloc->alloc(max64(positions * s.ic * padded, 1) * 4));
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
  out->params = p;
  out->items = p->mblocks * p->nblocks;
  out->grain = 1 + static_cast<int64_t>(100000 / item_macs);
  out->scratch = positions * (p->v_step + p->m_step) * 4;
  out->kernel = IRK_KERNEL_NAME("conv.winograd", row);
  return {};
}

}  // namespace irk
