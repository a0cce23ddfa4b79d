#include "conv/plan.h"

#include <math.h>
#include <string.h>

#include "base/ints.h"
#include "base/turn.h"
#include "runtime/kernel_name.h"

namespace irk {

Status want_inputs(StepContext& ctx, int count) {
  if (ctx.n_in != count || ctx.n_out != 1)
    return fail(Code::bad_file, "%s: %d inputs and %d outputs, expected %d and 1", ctx.loc, ctx.n_in, ctx.n_out, count);
  return {};
}

Status want_vector(StepContext& ctx, int i, int64_t count, bool one_ok) {
  if (!ctx.in[i]) return {};
  IRK_TRY(ctx.want_in(i, DType::f32, 1));
  const Tensor& t = *ctx.in[i];
  if (!t.data) return fail(Code::bad_file, "%s: input %d must be constant", ctx.loc, i);
  if (t.count != count && !(one_ok && t.count == 1))
    return fail(Code::bad_file, "%s: input %d has %lld entries, expected %lld", ctx.loc, i, (long long)t.count,
                (long long)count);
  return {};
}

Status want_residual(StepContext& ctx, int i) {
  if (!ctx.in[i]) return {};
  IRK_TRY(ctx.want_in(i, DType::f32, -1));
  if (ctx.in[i]->count != ctx.out[0]->count)
    return fail(Code::bad_file, "%s: residual has %lld elements, the output %lld", ctx.loc, (long long)ctx.in[i]->count,
                (long long)ctx.out[0]->count);
  return {};
}

Status read_act(StepContext& ctx, const Tensor* slope, int64_t oc, ActParams* act, const float** slopes) {
  const char* name = "none";
  IRK_TRY(ctx.attr_str("act", &name));
  *act = {Act::clip, -INFINITY, INFINITY};
  *slopes = nullptr;
  if (!strcmp(name, "none")) return {};
  if (!strcmp(name, "clip")) {
    IRK_TRY(ctx.attr_f32("lo", &act->lo));
    IRK_TRY(ctx.attr_f32("hi", &act->hi));
    if (!(act->lo <= act->hi)) return fail(Code::bad_file, "%s: clip range is empty", ctx.loc);
    act->hi += 0.0f;  // no -0: the kernels of all ISAs then give the same zeros
    return {};
  }
  if (!strcmp(name, "hardswish")) {
    act->act = Act::hardswish;
    return {};
  }
  const bool leaky = !strcmp(name, "leaky");
  if (!leaky && strcmp(name, "prelu")) return fail(Code::bad_file, "%s: unknown act %.32s", ctx.loc, name);
  float alpha = 0;
  if (leaky) {
    IRK_TRY(ctx.attr_f32("alpha", &alpha));
  } else if (!slope) {
    return fail(Code::bad_file, "%s: prelu without slopes", ctx.loc);
  }
  act->act = Act::leaky;
  float* s = static_cast<float*>(ctx.alloc->alloc(oc * 4));
  if (!s) return fail(Code::out_of_memory, "%s: no memory for slopes", ctx.loc);
  const float* given = leaky ? &alpha : static_cast<const float*>(slope->data);
  const bool one = leaky || slope->count == 1;
  for (int64_t i = 0; i < oc; i++) s[i] = given[one ? 0 : i];
  *slopes = s;
  return {};
}

namespace {

constexpr int64_t kCache = 512 << 10;    // part of a second-level cache that weights or activations may fill
constexpr int64_t kFewRows = 512;        // with more, the time to fetch weights does not matter
constexpr int64_t kNear = 64 << 10;      // weights of this size count as near
constexpr int64_t kNearOut = 128 << 10;  // and outputs of this size
constexpr int64_t kFewChannels = 8;      // fewer: the taps of a window are too short to be walked one by one
constexpr int64_t kMaxTiles = 64;        // of a row block; fixed by an array in the kernel

}  // namespace

const ConvTiles& tiles_of(Isa isa) {
  switch (isa) {
    case Isa::avx2:
      return kConvAvx2;
    case Isa::avx512:
      return kConvAvx512;
    case Isa::neon:
      return kConvNeon;
    default:
      return kConvScalar;
  }
}

namespace {

// Time of a tile. x86, in half cycles: two multiply-adds and two loads a cycle, a chain of latency 4 for each
// accumulator, and what a tile costs besides. NEON: instructions of four k, and a part of what a tile costs besides
// (conv/lanes.h).
int64_t tile_cost(const ConvTiles& t, int64_t k, int64_t rows, int64_t nv, bool far) {
  if (t.lanes == kConvNeon.lanes) {
    const int64_t loads = nv < 3 ? nv : 4;
    return 4 * rows * nv + rows + loads + 2 + (320 + 32 * rows * (nv + 1)) / max64(k, 1);
  }
  const int64_t step = max64(max64(rows * nv, rows + nv + 1), 8);
  return k * step * (100 + t.slower[far][nv]) / 100 + 60 + 2 * rows * nv;
}

}  // namespace

// Width in vectors of the panels that make `m` rows times `nvec` vectors, k deep, cheapest: of equal ones the widest,
// which reads rows least often. Weights that come from afar cost most in the first panel, which nothing prefetches.
int64_t choose_width(const ConvTiles& t, int64_t m, int64_t k, int64_t nvec, bool far) {
  int64_t best = 1, best_cost = INT64_MAX;
  for (int64_t nv = 1; nv <= kConvMaxVec; nv++) {
    if (!t.rows[nv] || nv > nvec) continue;
    const int64_t panels = ceil_div(nvec, nv), wide = nvec - panels * (nvec / panels), width = nvec / panels;
    const int64_t tiles = ceil_div(m, t.rows[nv]), more = m - tiles * (m / tiles), rows = m / tiles;
    auto column = [&](int64_t w) {
      return more * tile_cost(t, k, rows + 1, w, far) + (tiles - more) * tile_cost(t, k, rows, w, far);
    };
    const int64_t first = far ? k * (width + (wide > 0)) * 36 : 0;
    const int64_t cost = first + (wide ? wide * column(width + 1) : 0) + (panels - wide) * column(width);
    if (cost <= best_cost) best = nv, best_cost = cost;
  }
  return best;
}

namespace {

// Padded copy of a vector for each group, zeros where `v` is null.
float* pack_vector(StepContext& ctx, const float* v, int64_t groups, int64_t ocg, int64_t padded) {
  float* out = static_cast<float*>(ctx.alloc->alloc(groups * padded * 4));
  if (!out) return nullptr;
  memset(out, 0, static_cast<size_t>(groups * padded * 4));
  if (v)
    for (int64_t g = 0; g < groups; g++) memcpy(out + g * padded, v + g * ocg, static_cast<size_t>(ocg * 4));
  return out;
}

// Taps of one axis that reach phase r (output positions r, r + step, ...), with their input offsets.
int64_t axis_taps(const ConvShape& s, int axis, int64_t r, int32_t* tap, int32_t* off) {
  const int64_t k = axis ? s.kw : s.kh, d = s.dilation[axis];
  int64_t count = 0;
  for (int64_t t = 0; t < k; t++) {
    int64_t o;
    if (s.transposed) {
      const int64_t num = r + s.pad[axis] - t * d;  // output position r sees input num / stride, if that is whole
      if (num % s.stride[axis]) continue;
      o = num / s.stride[axis];
    } else {
      o = t * d - s.pad[axis];
    }
    tap[count] = static_cast<int32_t>(t);
    off[count++] = static_cast<int32_t>(o);
  }
  return count;
}

// Grid positions whose taps all fall inside [0, extent).
void interior(const int32_t* off, int64_t taps, int64_t step, int64_t extent, int64_t grid, int64_t* a, int64_t* b) {
  int64_t lo = 0, hi = 0;
  for (int64_t t = 0; t < taps; t++) {
    lo = min64(lo, off[t]);
    hi = max64(hi, off[t]);
  }
  *a = ceil_div(-lo, step);
  *b = extent - 1 < hi ? 0 : min64(grid, (extent - 1 - hi) / step + 1);
}

void pack_weights(const ConvShape& s, const ConvParams& p, int lanes, const float* w, const int32_t* ty,
                  const int32_t* tx, int64_t ny, int64_t nx, float* dst) {
  const int64_t kk = s.kh * s.kw * p.icg;
  const int64_t taps = s.transposed ? 1 : ny * nx;  // that follow each other as they do in `w`
  for (int64_t g = 0; g < s.groups; g++)
    for (int64_t q = 0; q < p.panels; q++) {
      const int64_t c0 = q * p.nvec / p.panels * lanes, width = (q + 1) * p.nvec / p.panels * lanes - c0;
      const int64_t n = min64(width, p.ocg - c0);
      const float* const from = w + (g * p.ocg + c0) * kk;
      if (n < width) memset(dst, 0, static_cast<size_t>(ny * nx * p.icg * width) * 4);
      for (int64_t t = 0; t < ny * nx; t += taps) {
        const int64_t at = (ty[t / nx] * s.kw + tx[t % nx]) * p.icg;
        turn_words(from + at, kk * 4, n, taps * p.icg, dst, width * 4);
        dst += taps * p.icg * width;
      }
    }
}

// Output pixel r reads input pixel r alone.
bool pointwise(const ConvShape& s) {
  return s.kh == 1 && s.kw == 1 && s.oh == s.ih && s.ow == s.iw && s.stride[0] == 1 && s.stride[1] == 1 &&
         s.pad[0] == 0 && s.pad[1] == 0;
}

// About how many grains of time a convolution with m output pixels takes: a product is 10 ps on a machine with wide
// vectors, an output as much as 20 of them, and so is each element of two where windows are copied together.
double grains_of(const ConvShape& s, int64_t m, int64_t depth) {
  const double pixels = static_cast<double>(m), outputs = pixels * static_cast<double>(s.oc);
  const double copied = s.kh * s.kw > 1 && s.ic / s.groups < kFewChannels ? pixels * static_cast<double>(depth) : 0;
  return (1.0 + outputs * static_cast<double>(depth) + 20 * outputs + 40 * copied) * 0.01 / kGrainNs;
}

}  // namespace

Status plan_conv(StepContext& ctx, const ConvShape& shape, PreparedStep* out) {
  ConvShape s = shape;
  const bool flat = pointwise(s);
  if (flat && !s.band) {  // all pixels make one row
    s.iw = s.ow = s.n * s.oh * s.ow;
    s.n = s.ih = s.oh = 1;
  }
  const KernelRow* row = pick_kernel("conv", "f32", ctx.isa);
  if (!row) return fail(Code::internal, "%s: no conv kernel", ctx.loc);
  const ConvTiles& tiles = tiles_of(row->isa);
  const float* w = static_cast<const float*>(ctx.in[kConvW]->data);
  auto* p = static_cast<ConvParams*>(ctx.alloc->alloc(sizeof(ConvParams)));
  const Status oom = fail(Code::out_of_memory, "%s: no memory for packed weights", ctx.loc);
  if (!p) return oom;
  *p = {};
  if (suits_few(shape, row->isa)) {
    out->params = p;
    return plan_few(ctx, shape, row, &p->few, out);
  }
  p->ih = s.ih, p->iw = s.iw, p->ic = s.ic, p->icg = s.ic / s.groups;
  p->oh = s.oh, p->ow = s.ow, p->oc = s.oc, p->ocg = s.oc / s.groups;
  p->groups = s.groups;
  p->planar = s.planar;
  p->in_rows = s.in_rows ? s.in_rows : INT64_MAX;
  p->out_rows = s.out_rows ? s.out_rows : INT64_MAX;
  for (int i = 0; i < 2; i++) {
    p->in_step[i] = s.transposed ? 1 : s.stride[i];
    p->out_step[i] = s.transposed ? s.stride[i] : 1;
  }
  const Tensor* bias = ctx.in[kConvBias];
  const Tensor* slope = ctx.in[kConvSlope];
  const float* slopes;
  IRK_TRY(read_act(ctx, slope, s.oc, &p->act, &slopes));

  // Phases and their sizes.
  const int64_t ph_h = min64(p->out_step[0], s.oh), ph_w = min64(p->out_step[1], s.ow);
  const int64_t nph = ph_h * ph_w;
  if (nph > (1 << 16)) return fail(Code::unsupported, "%s: stride too large", ctx.loc);
  auto* phases = static_cast<ConvPhase*>(ctx.alloc->alloc(nph * static_cast<int64_t>(sizeof(ConvPhase))));
  auto* axes = static_cast<int32_t*>(ctx.alloc->alloc((s.kh + s.kw) * 8));
  if (!phases || !axes) return oom;
  p->phases = phases;
  p->nphases = static_cast<int>(nph);
  int32_t *ty = axes, *oy = ty + s.kh, *tx = oy + s.kh, *ox = tx + s.kw;

  // Column panels by the largest phase (the first).
  const int64_t m = s.n * ceil_div(s.oh, p->out_step[0]) * ceil_div(s.ow, p->out_step[1]);
  p->nvec = ceil_div(p->ocg, tiles.lanes);
  const int64_t padded = p->nvec * tiles.lanes;
  const int64_t depth = s.kh * s.kw * p->icg;
  const double grains = grains_of(s, m, depth);
  const int threads = ctx.threads_for(grains);
  // A single row takes weights as fast as they come: to fetch them ahead only costs.
  p->prefetch = tiles.prefetch && !s.band && m > 1 && m <= kFewRows && padded * depth * 4 > kNear;
  p->fetch_out = tiles.prefetch && !s.band && depth == p->icg && m * s.oc * 4 > kNearOut;
  const int64_t width = choose_width(tiles, s.band ? s.band * s.ow : m, depth, p->nvec, p->prefetch);
  p->panels = ceil_div(p->nvec, width);
  if (p->prefetch && padded * depth * 4 > kCache && p->panels < 8 * threads)  // each thread its share of the panels
    p->panels = min64(p->nvec, ceil_div(p->panels, threads) * threads);
  p->max_rows = tiles.rows[ceil_div(p->nvec, p->panels)];
  p->bias = pack_vector(ctx, bias ? static_cast<const float*>(bias->data) : nullptr, s.groups, p->ocg, padded);
  if (!p->bias) return oom;
  if (slopes && !(p->slope = pack_vector(ctx, slopes, s.groups, p->ocg, padded))) return oom;

  int64_t max_taps = 1, max_run = p->icg, first_item = 0;
  for (int64_t r = 0; r < nph; r++) {
    ConvPhase& ph = phases[r];
    ph = {};
    ph.oy = r / ph_w;
    ph.ox = r % ph_w;
    ph.grid_h = ceil_div(s.oh - ph.oy, p->out_step[0]);
    ph.grid_w = ceil_div(s.ow - ph.ox, p->out_step[1]);
    ph.m = s.n * ph.grid_h * ph.grid_w;
    const int64_t ny = axis_taps(s, 0, ph.oy, ty, oy), nx = axis_taps(s, 1, ph.ox, tx, ox);
    ph.taps = ny * nx;
    ph.nx = nx;
    ph.flat = flat;
    interior(oy, ny, p->in_step[0], s.ih, ph.grid_h, &ph.y0, &ph.y1);
    interior(ox, nx, p->in_step[1], s.iw, ph.grid_w, &ph.x0, &ph.x1);
    auto* dy = static_cast<int32_t*>(ctx.alloc->alloc(max64(ph.taps, 1) * 16));
    if (!dy) return oom;
    auto* off = reinterpret_cast<int64_t*>(dy);
    dy += 2 * ph.taps;
    int32_t* dx = dy + ph.taps;
    for (int64_t t = 0; t < ph.taps; t++) {
      dy[t] = oy[t / nx];
      dx[t] = ox[t % nx];
      off[t] = (static_cast<int64_t>(dy[t]) * s.iw + dx[t]) * s.ic;
    }
    ph.dy = dy, ph.dx = dx, ph.tap_off = off;
    ph.merge = !s.transposed && s.dilation[1] == 1 && s.groups == 1 && nx > 0 ? nx : 1;
    p->window = s.planar || (ph.merge > 1 && p->icg < kFewChannels);
    max_taps = max64(max_taps, ph.taps);
    max_run = max64(max_run, p->icg * ph.merge);
    const int64_t count = s.groups * padded * ph.taps * p->icg;
    auto* packed = static_cast<float*>(ctx.alloc->alloc(max64(count, 1) * 4));
    if (!packed) return oom;
    pack_weights(s, *p, tiles.lanes, w, ty, tx, ny, nx, packed);
    ph.w = packed;
  }
  p->zero = static_cast<const float*>(ctx.alloc->filled(0, max_run * 4));
  if (!p->zero) return oom;
  p->max_taps = max_taps;

  // Blocks: weights of a group stay in the cache while rows pass by; if they don't fit, rows stay and weights pass.
  const int64_t k = max_taps * p->icg;
  const bool heavy = padded * k * 4 > kCache;
  p->n_major = heavy && s.ih * s.iw * p->icg * s.n * 4 <= 2 * kCache;
  int64_t tiles_per_block = heavy ? kMaxTiles : 8;
  const int64_t all_tiles = ceil_div(m, p->max_rows);
  if (threads > 1) {  // enough items for an even split; few wide panels alone would not be
    const int64_t columns = p->n_major ? p->panels : 1, want = ctx.items_for(grains, p->n_major ? 4 : 8);
    const int64_t all = all_tiles * s.groups * nph * columns;
    tiles_per_block =
        want > threads ? max64(1, min64(tiles_per_block, all / want)) : min64(kMaxTiles, ceil_div(all, want));
  }
  if (s.band && (s.groups != 1 || s.transposed || ceil_div(s.band * s.ow, p->max_rows) > kMaxTiles))
    return fail(Code::unsupported, "%s: convolution can't run row by row", ctx.loc);
  if (s.band) p->n_major = false;
  for (int64_t r = 0; r < nph; r++) {
    ConvPhase& ph = phases[r];
    ph.mblocks = s.band ? s.n * s.oh / s.band : ceil_div(ph.m, tiles_per_block * p->max_rows);
    p->block_rows = max64(p->block_rows, ceil_div(ph.m, ph.mblocks));
  }
  const int64_t row_items = phases[0].mblocks * s.groups * nph;
  const int64_t want = ctx.items_for(grains, 8);
  if (threads == 1 && phases[0].mblocks == 1) p->n_major = false;  // one block of rows: the same order in one item
  p->nblocks = p->n_major ? p->panels : s.band || row_items >= want ? 1 : min64(p->panels, ceil_div(want, row_items));
  for (int64_t r = 0; r < nph; r++) {
    phases[r].first_item = first_item;
    first_item += phases[r].mblocks * p->nblocks * s.groups;
  }
  out->fn = row->fn;
  out->in_place = residual_in_place();
  out->params = p;
  out->items = first_item;
  out->grains = grains;
  out->grain = 1 + static_cast<int64_t>(static_cast<double>(first_item) / grains);
  out->scratch = conv_scratch(p->block_rows, p->max_rows, max_taps, p->window ? k : 0);
  out->kernel = IRK_KERNEL_NAME("conv.f32", row);
  return {};
}

}  // namespace irk
