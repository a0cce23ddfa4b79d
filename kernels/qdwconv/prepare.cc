// qdwconv: in x i8 NHWC, w i8 [C][KH][KW][1], bias i32 [C]?, m f32 [C], residual i8 NHWC?; out i8 or f32 NHWC.
// attrs as qconv, groups = C.
#include "qdwconv/qdwconv.h"

#include <math.h>
#include <string.h>

#include "base/array.h"
#include "base/ints.h"
#include "qconv/forms.h"
#include "qdwconv/direct.h"
#include "qdwconv/tall.h"
#include "runtime/kernel_name.h"

namespace irk {
namespace {

// What the kernels of an ISA want; see qdwconv.h. Vectors per block times dwords per vector are the channels of a
// block.
struct Packing {
  int depth;                                                // rows of a group
  int size;                                                 // bytes of a weight
  int vectors, bytes;                                       // vectors per block, bytes per vector
  int narrowest;                                            // smallest block
  int64_t grain;                                            // outputs of kGrainNs
  int64_t lanes() const { return bytes / (depth * size); }  // channels of a vector
};

Packing packing_of(Isa isa) {
  switch (isa) {
    case Isa::avx512vnni:
      return {4, 1, 4, 64, 16, 16000};
    case Isa::avx2:
      return {2, 2, 2, 32, 16, 10000};
    case Isa::neondot:
      return {4, 1, 4, 16, 16, 10000};
    case Isa::neon:
      return {1, 2, 1, 32, 16, 5000};
    default:
      return {0, 0, 0, 0, 0, 1000};
  }
}

int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Blocks of the widest vector, then narrower ones when they waste less.
int64_t cut_channels(const Packing& pk, int64_t channels, QDwBlock* out) {
  const int64_t widest = pk.vectors * pk.lanes();
  int64_t n = 0;
  for (int64_t c = 0; c < channels; n++) {
    const int64_t left = channels - c;
    int64_t width = widest;
    while (width > pk.narrowest && (width / 2 >= left || (left < width && left - width / 2 <= pk.narrowest)))
      width /= 2;
    if (out) {
      out[n] = QDwBlock();
      out[n].c0 = c, out[n].n = left < width ? left : width, out[n].width = width;
    }
    c += width;
  }
  return n;
}

// Channel of the block in lane `e` of vector `q`: within each 128-bit lane the vectors follow each other.
int64_t channel_of(const Packing& pk, const QDwBlock& b, int64_t q, int64_t e) {
  return (e / 4 * 4 * pk.vectors + 4 * q + e % 4) % b.width;
}

// Bias and multiplier of a channel.
struct Scaling {
  QWeightSums sums;
  int64_t bias;
  float m;
};

// low: see qconv_may_be_low.
Scaling scaling_of(const QConvShape& s, int64_t c, bool low) {
  Scaling k = {qconv_weight_sums(s.w + c * s.kh * s.kw, s.kh * s.kw), s.bias ? s.bias[c] : 0, s.m[c]};
  if (low) qconv_shrink_constant(QSumRange(k.sums, k.bias, s.zx), &k.bias, &k.m);
  return k;
}

// A channel's weights, from its place in the first vector on: for each output row of the band, tap kh has row kh of the
// groups counted from the row's first.
template <class T>
void pack_channel(const Packing& pk, const QDwParams& p, const int8_t* src, uint8_t* dst) {
  const int64_t step = pk.vectors * pk.bytes;
  for (int64_t r = 0; r < p.band; r++)
    for (int64_t kh = 0; kh < p.kh; kh++) {
      const int64_t row = kh + r * p.sh;
      uint8_t* to = dst + (r * p.groups + row / pk.depth) * p.kw * step + row % pk.depth * pk.size;
      for (int64_t kw = 0; kw < p.kw; kw++, to += step) {
        const T value = src[kh * p.kw + kw];
        memcpy(to, &value, sizeof value);
      }
    }
}

void pack_block(const Packing& pk, const QDwParams& p, const QConvShape& s, const QDwBlock& b, uint8_t* w,
                int32_t* bias, float* m) {
  const int64_t lanes = pk.lanes();
  for (int64_t q = 0; q < pk.vectors; q++)
    for (int64_t e = 0; e < lanes; e++) {
      const int64_t in_block = channel_of(pk, b, q, e), c = b.c0 + in_block;
      if (in_block >= b.n) continue;
      const int8_t* src = s.w + c * p.kh * p.kw;
      const Scaling k = scaling_of(s, c, p.form == QForm::lifted);
      const int64_t shift = pk.depth == 4 && pk.bytes == 64 ? 128 : 0;  // VNNI multiplies x + 128
      const int64_t lane = b.lanes + q * lanes + e;
      const int32_t start = static_cast<int32_t>(static_cast<uint32_t>(k.bias - (s.zx + shift) * k.sums.plain));
      bias[lane] = p.form == QForm::lifted ? qconv_lifted(start) : start;
      m[lane] = k.m;
      uint8_t* const dst = w + b.w + q * pk.bytes + e * pk.depth * pk.size;
      if (pk.size == 1)
        pack_channel<int8_t>(pk, p, src, dst);
      else
        pack_channel<int16_t>(pk, p, src, dst);
    }
}

// Fills sums with the largest |sum| of each channel, the residual apart.
Status check_sums(const StepContext& ctx, const QConvShape& s, Isa isa, QDwParams* p, double* sums) {
  const bool low = !s.residual && qconv_may_be_low(s, isa);
  bool liftable = low;
  const double reach = static_cast<double>(most(s.zx + 128, 127 - s.zx));
  const double added = s.residual ? static_cast<double>(most(s.zr + 128, 127 - s.zr)) * fabs(s.mr) : 0;
  for (int64_t c = 0; c < s.oc; c++) {
    const Scaling k = scaling_of(s, c, liftable);
    const double start = s.bias ? fabs(static_cast<double>(s.bias[c])) : 0;
    const double sum = start + static_cast<double>(k.sums.magnitude) * reach;
    IRK_TRY(qconv_check_channel(ctx, c, sum, s.m[c]));
    if (sum * fabs(s.m[c]) + added > kQConvSafe) p->wide = true;
    sums[c] = sum;
    liftable = liftable && QSumRange(k.sums, k.bias, s.zx).liftable() && qconv_liftable_scale(k.m);
  }
  p->form = liftable && !p->wide ? QForm::lifted : QForm::plain;
  return Status();
}

QDwParams params_of(const QConvShape& s) {
  QDwParams p = QDwParams();
  p.ih = s.ih, p.iw = s.iw, p.c = s.ic, p.oh = s.oh, p.ow = s.ow;
  p.kh = s.kh, p.kw = s.kw, p.sh = s.sh, p.sw = s.sw, p.pt = s.pt, p.pl = s.pl, p.dh = s.dh, p.dw = s.dw;
  p.zx = static_cast<int32_t>(s.zx), p.zy = static_cast<int32_t>(s.zy), p.zr = static_cast<int32_t>(s.zr);
  p.lo = static_cast<int32_t>(s.lo), p.hi = static_cast<int32_t>(s.hi), p.mr = s.mr;
  p.f32 = s.f32, p.residual = s.residual, p.clamped = s.lo > -128 || s.hi < 127;
  p.band = 1, p.groups = 1, p.row_step = s.dh, p.blocks = 1;
  return p;
}

// Rows of a band, groups of rows, columns of a pass.
void cut_image(const Packing& pk, const QConvShape& s, QDwParams* p) {
  p->groups = ceil_div(s.kh, pk.depth);
  if (s.dh == 1) p->band = (p->groups * pk.depth - s.kh) / s.sh + 1;
  if (p->band > s.oh) p->band = s.oh;
  // Each row of a band has weights of its own; on small images they should not be much larger than the image.
  const int64_t row_bytes = p->groups * pk.depth * pk.size * s.kw;
  while (p->band > 2 && p->band * row_bytes > 3 * s.oh * s.ow) p->band--;
  p->taps = p->groups * s.kw;
  // The scratch of a pass should stay in L1 beside weights and outputs.
  const int64_t column = p->groups * pk.vectors * pk.lanes() * pk.depth * pk.size * s.sw;
  const int64_t chunk = most((s.sw > 1 ? 10240 : 24576) / column, 16);
  p->chunk = ceil_div(s.ow, ceil_div(s.ow, chunk));
}

// Cuts the channels into blocks, each with its weights and constants.
Status pack_blocks(const StepContext& ctx, const Packing& pk, const QConvShape& s, QDwParams* p, QDwBlock** out) {
  p->blocks = cut_channels(pk, s.ic, nullptr);
  QDwBlock* blocks = static_cast<QDwBlock*>(ctx.alloc->alloc(p->blocks * static_cast<int64_t>(sizeof(QDwBlock))));
  if (!blocks) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  cut_channels(pk, s.ic, blocks);
  const int64_t w_bytes = p->band * p->taps * pk.vectors * pk.bytes, lanes = pk.vectors * pk.lanes();
  int64_t total;
  if (!mul_ok(w_bytes, p->blocks, &total)) return fail(Code::unsupported, "%s: weights too large", ctx.loc);
  uint8_t* w = static_cast<uint8_t*>(ctx.alloc->alloc(total));
  int32_t* bias = static_cast<int32_t*>(ctx.alloc->alloc(lanes * p->blocks * 4));
  float* m = static_cast<float*>(ctx.alloc->alloc(lanes * p->blocks * 4));
  if (!w || !bias || !m) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  memset(w, 0, static_cast<size_t>(total));
  memset(bias, 0, static_cast<size_t>(lanes * p->blocks) * 4);
  memset(m, 0, static_cast<size_t>(lanes * p->blocks) * 4);
  for (int64_t i = 0; i < p->blocks; i++) {
    blocks[i].w = i * w_bytes, blocks[i].lanes = i * lanes;
    pack_block(pk, *p, s, blocks[i], w, bias, m);
  }
  p->block = *out = blocks, p->w = w, p->bias = bias, p->m = m;
  return Status();
}

// Where a pass puts the columns of its groups, and with them the taps of each block; the bytes of that.
Status place_columns(const StepContext& ctx, const Packing& pk, const QConvShape& s, QDwParams* p, QDwBlock* blocks,
                     int64_t* scratch) {
  const int64_t span = (s.kw - 1) * s.dw + 1;
  p->planes = s.sw < span ? s.sw : span;
  p->reach = (span - 1) / s.sw;
  const int64_t columns =
      round_up(p->chunk + p->reach, 2) + 16;  // a last group of vectors reads beyond, whatever is there
  if (!mul_ok(columns * p->planes, p->groups * pk.vectors * pk.lanes() * pk.depth * pk.size, scratch))
    return fail(Code::unsupported, "%s: kernel too large", ctx.loc);
  *scratch += 256;
  int64_t* offsets = static_cast<int64_t*>(ctx.alloc->alloc(p->blocks * p->taps * 8));
  if (!offsets) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  for (int64_t i = 0; i < p->blocks; i++) {
    QDwBlock& b = blocks[i];
    const int64_t column_bytes = b.width * pk.depth * pk.size / pk.vectors;
    b.plane = columns * column_bytes;
    b.vector = b.plane * p->planes;
    b.group = b.vector * pk.vectors;
    for (int64_t g = 0; g < p->groups; g++)
      for (int64_t kw = 0; kw < s.kw; kw++)
        offsets[(i * p->groups + g) * s.kw + kw] =
            g * b.group + kw * s.dw % s.sw * b.plane + kw * s.dw / s.sw * column_bytes;
  }
  p->offsets = offsets;
  return Status();
}

}  // namespace

Status irk_prepare_qdwconv(StepContext& ctx, PreparedStep* out) {
  QConvShape s;
  IRK_TRY(qconv_read_common(ctx, 4, 4, &s));
  IRK_TRY(qconv_read_geometry(ctx, &s));
  if (s.groups != s.ic || s.oc != s.ic)
    return fail(Code::bad_file, "%s: not depthwise: %lld groups, %lld input and %lld output channels", ctx.loc,
                (long long)s.groups, (long long)s.ic, (long long)s.oc);
  const KernelRow* row = pick_kernel("qdwconv", "s8s8", ctx.isa);
  QDwParams* p = static_cast<QDwParams*>(ctx.alloc->alloc(sizeof(QDwParams)));
  if (!row || !p) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  Packing pk = packing_of(row->isa);
  if (row->isa == Isa::avx512vnni && s.ic == 8 && s.sw <= 2) pk.narrowest = 8;
  const int64_t channels = ceil_div(s.ic, 16) * 16;  // that are worked on
  *p = params_of(s);
  Array<double> most_sums;
  double* const sums = most_sums.alloc(s.oc) ? most_sums.data() : nullptr;
  if (!sums) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  IRK_TRY(check_sums(ctx, s, row->isa, p, sums));
  out->fn = row->fn;
  out->params = p;
  out->kernel = IRK_KERNEL_NAME("qdwconv.s8s8", row);
  const auto plan_items = [&](int64_t band, int64_t bands, int64_t blocks) {
    out->items = s.n * bands * blocks;
    out->grain = most(1, pk.grain * blocks / (band * s.ow * channels));
    if (ctx.band_rows > 0 && s.n == 1) out->band = {band, blocks, s.sh, s.pt, (s.kh - 1) * s.dh + 1};
  };
  IRK_TRY(qdw_direct(ctx, s, row->isa, sums, &p->direct));
  if (p->direct) {
    plan_items(p->direct->band, p->direct->bands, p->direct->blocks);
    return Status();
  }
  IRK_TRY(qdw_tall(ctx, s, row->isa, sums, &p->tall, &out->scratch));
  if (p->tall) {
    plan_items(p->tall->band, p->tall->bands, p->tall->blocks);
    if (row->isa == Isa::neondot) out->band.pad += 3, out->band.span += 6;  // whole groups of four rows
    return Status();
  }
  if (pk.depth) {
    QDwBlock* blocks = nullptr;
    cut_image(pk, s, p);
    IRK_TRY(pack_blocks(ctx, pk, s, p, &blocks));
    IRK_TRY(place_columns(ctx, pk, s, p, blocks, &out->scratch));
  }
  p->bands = ceil_div(s.oh, p->band);
  plan_items(p->band, p->bands, p->blocks);
  // Threads share out the channels where weights are larger than what they make: each then reads its part of them.
  const int64_t bytes = p->blocks * p->band * p->taps * pk.vectors * pk.bytes;
  p->across = ctx.threads < 2 || ctx.band_rows > 0 || p->blocks < 2 * ctx.threads || bytes < 2 * s.oh * s.ow * s.ic;
  return Status();
}

}  // namespace irk
