#include "conv/few.h"

#include <string.h>

#include "base/ints.h"
#include "base/turn.h"
#include "conv/plan.h"
#include "runtime/kernel_name.h"

namespace irk {

#if defined(__x86_64__)

namespace {

constexpr int64_t kFewChannels = 8;         // fewer, or
constexpr int64_t kPointChannels = 16;      // no more, with a window of one pixel
constexpr int64_t kBandBytes = 24 << 10;    // of the copied rows of an item: half a first-level cache
constexpr int64_t kPlanarBytes = 20 << 10;  // of a planar image, whose copies take longer; or
constexpr int64_t kPlanarLarge = 40 << 10;  // while more than half as many rows as its own are its neighbours'
constexpr int64_t kMostStride = 64;         // of a planar image's columns
constexpr int64_t kMostBytes = 1 << 20;     // of the copied rows that one output row needs
constexpr double kMacsOfGrain = 150000;

// Copied rows for `rows` rows of the output.
int64_t copied(const ConvShape& s, int64_t rows) { return (rows - 1) * s.stride[0] + (s.kh - 1) * s.dilation[0] + 1; }

// Floats of the columns of a copied row that have the same remainder by the stride, of one channel.
int64_t part_floats(const ConvShape& s) {
  const int64_t read = round_up(s.ow, 2) + (s.kw - 1) / s.stride[1];
  return max64(read, ceil_div(s.pad[1] + s.iw, s.stride[1]));
}

// Floats of a copied row.
int64_t row_floats(const ConvShape& s) {
  if (s.planar) return part_floats(s) * s.stride[1] * s.ic;
  return ((s.ow - 1) * s.stride[1] + s.kw) * s.ic;
}

// Cycles for one step of a row of `cols` windows: two multiply-adds and two loads a cycle, and a latency of 4.
int64_t row_cost(const int* most, int64_t cols, int64_t nv) {
  const int64_t n = ceil_div(cols, most[nv]), width = cols / n, wide = cols - n * width;
  auto tile = [&](int64_t t) { return max64(max64(t * nv, t + nv), 8); };
  return wide * tile(width + 1) + (n - wide) * tile(width);
}

// Width in vectors of the widest of the cheapest panels.
int64_t panel_width(const int* most, int64_t cols, int64_t nvec) {
  int64_t best = 1, best_cost = INT64_MAX;
  for (int64_t nv = 1; nv <= kFewMaxVec && nv <= nvec; nv++) {
    if (!most[nv]) continue;
    const int64_t panels = ceil_div(nvec, nv), width = nvec / panels, wide = nvec - panels * width;
    const int64_t cost =
        (wide ? wide * row_cost(most, cols, width + 1) : 0) + (panels - wide) * row_cost(most, cols, width);
    if (cost <= best_cost) best = nv, best_cost = cost;
  }
  return best;
}

// n values, each in `times` lanes, and zeros.
float* vector(StepContext& ctx, const float* v, int64_t n, int64_t times, int64_t padded) {
  auto* out = static_cast<float*>(ctx.alloc->alloc(padded * 4));
  if (!out) return nullptr;
  for (int64_t i = 0; i < padded; i++) out[i] = v && i < n * times ? v[i / times] : 0.0f;
  return out;
}

}  // namespace

bool suits_few(const ConvShape& s, Isa isa) {
  if (s.planar)
    return isa >= Isa::avx2 && isa <= Isa::amx && !s.transposed && s.groups == 1 && s.ic < kFewChannels &&
           s.dilation[1] == 1 && s.stride[1] < kMostStride && !s.in_rows && copied(s, 1) <= kMostBytes &&
           copied(s, 1) * row_floats(s) * 4 <= kMostBytes;
  return isa >= Isa::avx2 && isa <= Isa::amx && !s.transposed && s.groups == 1 && s.dilation[1] == 1 &&
         (s.kh * s.kw > 1 ? s.ic < kFewChannels : s.ic <= kPointChannels && s.ow > 1) &&
         copied(s, 1) * row_floats(s) * 4 <= kMostBytes;
}

Status plan_few(StepContext& ctx, const ConvShape& s, const KernelRow* row, const FewParams** params,
                PreparedStep* out) {
  const bool pairs = s.planar && row->isa == Isa::avx512 && s.oc <= 8 && s.ow > 1 && !ctx.in[kConvResidual];
  if (s.oc <= 8 && row->isa == Isa::avx512 && !pairs) row = pick_kernel("conv", "f32", Isa::avx2);  // filled by them
  const bool wide = row->isa == Isa::avx512;
  const int* most = s.planar ? wide ? kPlanarAvx512 : kPlanarAvx2 : wide ? kFewAvx512 : kFewAvx2;
  const int64_t lanes = row->nr;
  const Status oom = fail(Code::out_of_memory, "%s: no memory for packed weights", ctx.loc);
  auto* p = static_cast<FewParams*>(ctx.alloc->alloc(sizeof(FewParams)));
  if (!p) return oom;
  *p = {};
  p->ih = s.ih, p->iw = s.iw, p->ic = s.ic, p->oh = s.oh, p->ow = s.ow, p->oc = s.oc;
  p->in_rows = s.in_rows ? s.in_rows : INT64_MAX;
  p->out_rows = s.out_rows ? s.out_rows : INT64_MAX;
  p->kh = s.kh, p->run = s.kw * s.ic;
  p->step_h = s.stride[0], p->dil_h = s.dilation[0], p->step = s.stride[1] * s.ic;
  p->row = row_floats(s);
  p->pad_h = s.pad[0], p->before = min64(s.pad[1] * s.ic, p->row);
  p->in_place = s.kh == 1 && s.pad[0] == 0 && s.pad[1] == 0 && p->row <= s.iw * s.ic && (s.oh - 1) * s.stride[0] < s.ih;
  p->pack = pairs ? 2 : 1;
  if (s.planar) {
    p->planar = true, p->in_place = false;
    p->step = p->pack;
    p->step_w = s.stride[1];
    p->part = part_floats(s);
    p->taps = s.kh * p->run;
    auto* at = static_cast<int64_t*>(ctx.alloc->alloc(p->taps * 8));
    auto* parts = static_cast<FewPart*>(ctx.alloc->alloc(p->step_w * static_cast<int64_t>(sizeof(FewPart))));
    if (!at || !parts) return oom;
    p->at = at;
    p->parts = parts;
    for (int64_t r = 0; r < p->step_w; r++) {
      const int64_t skip = (r + p->step_w - s.pad[1] % p->step_w) % p->step_w;
      parts[r] = {skip, ceil_div(s.iw - skip, p->step_w), (s.pad[1] + skip) / p->step_w};
    }
    for (int64_t a = 0; a < s.kh; a++)
      for (int64_t b = 0; b < s.kw; b++)
        for (int64_t c = 0; c < s.ic; c++) {
          const int64_t part = c * p->step_w + b % p->step_w;
          *at++ = (a * s.dilation[0] * p->row + part * p->part + b / p->step_w) * 4;
        }
  }
  p->nvec = ceil_div(s.oc, lanes);
  p->panels = ceil_div(p->nvec, panel_width(most, ceil_div(s.ow, p->pack), p->nvec));

  const int64_t padded = p->nvec * lanes, k = s.kh * p->run;
  const Tensor *bias = ctx.in[kConvBias], *slope = ctx.in[kConvSlope];
  const float* slopes;
  IRK_TRY(read_act(ctx, slope, s.oc, &p->act, &slopes));
  p->bias = vector(ctx, bias ? static_cast<const float*>(bias->data) : nullptr, s.oc, p->pack, padded);
  auto* packed = static_cast<float*>(ctx.alloc->alloc(padded * k * 4));
  if (!p->bias || !packed) return oom;
  if (slopes && !(p->slope = vector(ctx, slopes, s.oc, 1, padded))) return oom;
  const float* w = static_cast<const float*>(ctx.in[kConvW]->data);
  p->w = packed;
  for (int64_t i = 0; pairs && i < padded * k; i++)  // one vector
    packed[i] = i % padded < 2 * s.oc ? w[i % padded / 2 * k + i / padded] : 0.0f;
  for (int64_t q = 0; !pairs && q < p->panels; q++) {
    const int64_t c0 = q * p->nvec / p->panels * lanes, width = (q + 1) * p->nvec / p->panels * lanes - c0;
    const int64_t n = min64(width, s.oc - c0);
    if (n < width) memset(packed, 0, static_cast<size_t>(k * width) * 4);
    turn_words(w + c0 * k, k * 4, n, k, packed, width * 4);
    packed += k * width;
  }

  int64_t rows = 1;
  const auto room = [&] {
    if (!s.planar) return kBandBytes;
    return 2 * copied(s, rows) > 3 * rows * s.stride[0] ? kPlanarLarge : kPlanarBytes;
  };
  while (rows < s.oh && copied(s, rows + 1) * p->row * 4 <= room()) rows++;
  p->bands = ceil_div(s.oh, rows);
  const double grains = (1.0 + static_cast<double>(s.n * s.oh * s.ow) * static_cast<double>(k * s.oc)) / kMacsOfGrain;
  p->bands = max64(p->bands, min64(s.oh, ceil_div(ctx.items_for(grains, 4), s.n)));
  if (s.band) p->bands = s.oh / s.band;
  const int64_t band = ceil_div(s.oh, p->bands);
  *params = p;
  out->items = s.n * p->bands;
  out->grains = grains;
  out->grain = 1 + static_cast<int64_t>(static_cast<double>(out->items) / grains);
  out->scratch = p->in_place ? 0 : copied(s, band) * p->row * 4;
  out->fn = row->fn;
  out->in_place = residual_in_place();
  out->kernel = s.planar ? IRK_KERNEL_NAME("conv.f32.planar", row) : IRK_KERNEL_NAME("conv.f32.few", row);
  return {};
}

#else

bool suits_few(const ConvShape&, Isa) { return false; }
Status plan_few(StepContext&, const ConvShape&, const KernelRow*, const FewParams**, PreparedStep*) { return {}; }

#endif

}  // namespace irk
