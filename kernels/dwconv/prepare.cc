// dwconv: x f32 [N, H, W, C], w f32 [C, KH, KW, 1] constant, bias [C]?, residual?, slope [C or 1]?.
// Attributes strides, pads (top, left, bottom, right), dilation, groups (= C); act as in conv.
#include "dwconv/dwconv.h"

#include <string.h>

#include "base/ints.h"
#include "base/turn.h"
#include "conv/plan.h"
#include "runtime/kernel_name.h"

namespace irk {

namespace {

constexpr double kMacsOfGrain = 80000;
constexpr int64_t kFirstLevel = 24 << 10;  // bytes of input rows that a channel block may keep in the cache

// Whether tiles go on in the order of memory, all channels of a few columns, or in that of computation, all columns of
// a few channels, which loads the weights of a vector of channels once. The second way is slower
// - where input and output don't fit the second-level cache, and sooner where a column takes few products (stride 2):
//   the order of memory is what the hardware prefetches;
// - where the columns of a vector's window rows, at a distance of 2 to the n bytes, all fall into a few sets of the
//   first-level cache;
// - in chains, which ask for few rows at a time: it has to load the (few) weights of a 3x3 kernel again for each.
bool memory_order(const ConvShape& s) {
  if (s.band) return s.kw == 3;
  const int64_t bytes = (s.ih * s.iw + s.oh * s.ow) * s.ic * 4, pixel = s.ic * 4;
  if (bytes > (s.stride[1] > 1 ? 3 << 17 : 3 << 19)) return true;
  constexpr int64_t kLine = 64, kSets = 64, kWays = 12;
  int64_t sets = kSets * kLine;  // places of a column modulo the sets' size, at most one a set
  for (int64_t b = pixel; b % 2 == 0 && sets > 1; b /= 2) sets /= 2;
  return s.kh * s.iw > min64(sets, kSets) * kWays;
}

float* zeros(StepContext& ctx, int64_t count) {
  auto* p = static_cast<float*>(ctx.alloc->alloc(count * 4));
  if (p) memset(p, 0, static_cast<size_t>(count * 4));
  return p;
}

}  // namespace

Status irk_prepare_dwconv(StepContext& ctx, PreparedStep* out) {
  ConvShape s;
  int64_t blocks;
  IRK_TRY(read_conv(ctx, &s));
  return plan_dwconv(ctx, s, out, &blocks);
}

Status plan_dwconv(StepContext& ctx, const ConvShape& s, PreparedStep* out, int64_t* blocks) {
  if (s.groups != s.ic || s.oc != s.ic)
    return fail(Code::bad_file, "%s: depthwise convolution needs one filter a channel", ctx.loc);
  // No more than eight channels fill a vector of AVX2.
  const bool x86 = ctx.isa >= Isa::avx2 && ctx.isa <= Isa::amx;
  const KernelRow* row = pick_kernel("dwconv", "f32", x86 && s.ic <= 8 ? Isa::avx2 : ctx.isa);
  if (!row) return fail(Code::internal, "%s: no dwconv kernel", ctx.loc);
  const int64_t lanes = row->nr, taps = s.kh * s.kw, c = s.ic;
  const Status oom = fail(Code::out_of_memory, "%s: no memory for packed weights", ctx.loc);
  auto* p = static_cast<DwParams*>(ctx.alloc->alloc(sizeof(DwParams)));
  if (!p) return oom;
  *p = {};
  p->ih = s.ih, p->iw = s.iw, p->oh = s.oh, p->ow = s.ow, p->c = c, p->kh = s.kh, p->kw = s.kw;
  for (int i = 0; i < 2; i++) p->stride[i] = s.stride[i], p->dilation[i] = s.dilation[i], p->pad[i] = s.pad[i];
  p->in_rows = s.in_rows ? s.in_rows : INT64_MAX;
  p->out_rows = s.out_rows ? s.out_rows : INT64_MAX;
  p->nvec = ceil_div(c, lanes);
  p->span = (row->mr - 1) * s.stride[1] + (s.kw - 1) * s.dilation[1] + 1;

  int64_t zero_floats;
  if (!mul_ok(min64(p->span, s.iw + s.kw), c, &zero_floats)) return oom;
  const int64_t padded = p->nvec * lanes;
  float* w = zeros(ctx, padded * taps);
  float* bias = zeros(ctx, padded);
  p->zero = static_cast<const float*>(ctx.alloc->filled(0, zero_floats * 4));
  if (!w || !bias || !p->zero) return oom;
  const float* given = static_cast<const float*>(ctx.in[kDwW]->data);
  for (int64_t i = 0; i < c; i += lanes)
    turn_words(given + i * taps, taps * 4, min64(lanes, c - i), taps, w + i * taps, lanes * 4);
  if (ctx.in[kDwBias]) memcpy(bias, ctx.in[kDwBias]->data, static_cast<size_t>(c * 4));
  p->w = w;
  p->bias = bias;
  const float* slopes;
  IRK_TRY(read_act(ctx, ctx.in[kDwSlope], c, &p->act, &slopes));
  if (slopes) {
    float* padded_slopes = zeros(ctx, padded);
    if (!padded_slopes) return oom;
    memcpy(padded_slopes, slopes, static_cast<size_t>(c * 4));
    p->slope = padded_slopes;
  }

  // x86: whole rows, which the hardware prefetches. NEON: channel blocks by cache, at least two vectors wide as lines
  // come in pairs. Bands so that all threads get work.
  const int64_t fit = x86 ? p->nvec : max64(2, kFirstLevel / max64(1, s.kh * s.iw * lanes * 4));
  p->cblocks = ceil_div(p->nvec, fit);
  p->memory_order = memory_order(s);
  const double macs = 1.0 + static_cast<double>(s.n * s.oh * s.ow * padded) * static_cast<double>(taps);
  const int threads = ctx.threads_for(macs / kMacsOfGrain);
  const int64_t want = max64(1, ceil_div((x86 ? 4 : 8) * threads, p->cblocks * s.n));
  p->bands = s.band ? s.oh / s.band : threads > 1 ? min64(s.oh, want) : 1;
  *blocks = p->cblocks;
  out->fn = row->fn;
  out->params = p;
  out->items = s.n * p->bands * p->cblocks;
  out->grains = macs / kMacsOfGrain;
  out->grain = 1 + static_cast<int64_t>(kMacsOfGrain * static_cast<double>(s.n * p->bands * p->cblocks) / macs);
  out->scratch = taps * kDwCols * static_cast<int64_t>(sizeof(void*));
  out->kernel = IRK_KERNEL_NAME("dwconv.f32", row);
  return {};
}

}  // namespace irk
