// Plans and packs for the kernels of tall.h.
#include "qdwconv/tall.h"

#include <stdlib.h>
#include <string.h>

#include "qdwconv/direct.h"

namespace irk {
namespace {

constexpr int64_t kMostScratch = 49152;
constexpr int64_t kMostInput = 262144;  // bytes of a band, read once by every block of channels

void pack_dot(const QConvShape& s, const QDwTall& p, int64_t c0, int8_t* w) {
  for (int64_t phase = 0; phase < 2; phase++) {
    int8_t* at = w + phase * p.phase_bytes;
    for (int64_t e = 0; e < 2; e++)
      for (int64_t g = 0; g < p.groups[phase]; g++)
        for (int64_t kw = 0; kw < s.kw; kw++)
          for (int64_t r = 0; r < 2; r++)
            for (int64_t i = 0; i < 32; i++) {
              const int64_t kh = 4 * g + i % 4 - 2 * phase - r * s.sh, c = c0 + 8 * e + i / 4;
              *at++ = kh < 0 || kh >= s.kh ? 0 : s.w[(c * s.kh + kh) * s.kw + kw];
            }
  }
}

void pack_wide(const QConvShape& s, int64_t c0, int8_t* w) {
  for (int64_t k = 0; k < s.kh * s.kw; k++)
    for (int64_t e = 0; e < kTallWidth; e++) *w++ = s.w[(c0 + e) * s.kh * s.kw + k];
}

// Bit t / 2: the products with taps t and t + 1 must begin a new int16 sum.
uint32_t fresh_pairs(const QConvShape& s, int64_t c0) {
  const int64_t taps = s.kh * s.kw;
  uint32_t fresh = 0;
  int sums[kTallWidth] = {0};
  for (int64_t t = 0; t < taps && t < 64; t += 2) {
    int pair[kTallWidth];
    bool fits = true;
    for (int64_t e = 0; e < kTallWidth; e++) {
      const int8_t* w = s.w + (c0 + e) * taps + t;
      pair[e] = abs(w[0]) + (t + 1 < taps ? abs(w[1]) : 0);
      fits = fits && sums[e] + pair[e] <= 255;
    }
    if (!fits) fresh |= 1u << (t / 2);
    for (int64_t e = 0; e < kTallWidth; e++) sums[e] = fits ? sums[e] + pair[e] : pair[e];
  }
  return fresh;
}

}  // namespace

Status qdw_tall(StepContext& ctx, const QConvShape& s, Isa isa, const double* sums, const QDwTall** out,
                int64_t* scratch) {
  *out = nullptr;
  const bool dot = isa == Isa::neondot;
  if ((isa != Isa::neon && !dot) || s.dh != 1 || s.f32 || s.residual || s.ic < kTallWidth) return Status();
  int64_t groups[2];
  for (int64_t phase = 0; phase < 2; phase++) groups[phase] = (2 * phase + s.sh + s.kh - 1) / 4 + 1;
  const int64_t ring = dot ? groups[1] : s.kh, size = dot ? 64 : 16;
  const int64_t tile = dot ? kTallColumns : 2;
  const int64_t columns = (s.ow - 1) * s.sw + (s.kw - 1) * s.dw + 1;
  const int64_t slack = s.ow < tile || !dot ? (tile - 1) * s.sw : 0;
  if (ring > (dot ? kTallRing : kTallRows) || columns + slack > kMostScratch / (ring * size)) return Status();
  const int64_t blocks = (s.ic + kTallWidth - 1) / kTallWidth, line_bytes = s.iw * s.ic;
  const int64_t phase_bytes = dot ? 2 * ring * s.kw * 64 : s.kh * s.kw * kTallWidth;
  QDwTall* p = static_cast<QDwTall*>(ctx.alloc->alloc(sizeof(QDwTall)));
  const int8_t zx = static_cast<int8_t>(s.zx);
  const int8_t* line = static_cast<const int8_t*>(ctx.alloc->filled(zx, line_bytes));
  int8_t* w = static_cast<int8_t*>(ctx.alloc->alloc(blocks * (dot ? 2 : 1) * phase_bytes));
  int32_t* bias = static_cast<int32_t*>(ctx.alloc->alloc(blocks * kTallWidth * 4));
  float* m = static_cast<float*>(ctx.alloc->alloc(blocks * kTallWidth * 4));
  uint8_t* kinds = static_cast<uint8_t*>(ctx.alloc->alloc(blocks));
  uint32_t* fresh = static_cast<uint32_t*>(ctx.alloc->alloc(blocks * 4));
  if (!p || !line || !w || !bias || !m || !kinds || !fresh)
    return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  *p = QDwTall();
  p->ih = s.ih, p->iw = s.iw, p->c = s.ic, p->oh = s.oh, p->ow = s.ow;
  p->kh = s.kh, p->kw = s.kw, p->sh = s.sh, p->sw = s.sw, p->dw = s.dw, p->pt = s.pt, p->pl = s.pl;
  const int64_t rows = (kMostInput / line_bytes - s.kh + s.sh) / s.sh / 2 * 2;
  p->band = rows < 8 || ctx.band_rows > 0 ? 8 : rows;
  if (p->band > s.oh) p->band = s.oh;
  p->bands = (s.oh + p->band - 1) / p->band;
  p->blocks = s.ic / kTallWidth, p->rest = s.ic % kTallWidth != 0;
  p->groups[0] = groups[0], p->groups[1] = groups[1], p->ring = ring;
  p->columns = columns, p->slack = slack, p->phase_bytes = phase_bytes;
  p->zx = static_cast<int32_t>(s.zx), p->zy = static_cast<int32_t>(s.zy);
  p->lo = static_cast<int32_t>(s.lo), p->hi = static_cast<int32_t>(s.hi);
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t c0 = b < p->blocks ? b * kTallWidth : s.ic - kTallWidth;
    kinds[b] = qdw_lanes(s, c0, kTallWidth, sums, bias + b * kTallWidth, m + b * kTallWidth);
    fresh[b] = fresh_pairs(s, c0);
    if (dot)
      pack_dot(s, *p, c0, w + b * 2 * phase_bytes);
    else
      pack_wide(s, c0, w + b * phase_bytes);
  }
  p->line = line, p->w = w, p->bias = bias, p->m = m, p->kinds = kinds, p->fresh = fresh;
  *scratch = ring * size * (columns + slack);
  *out = p;
  return Status();
}

}  // namespace irk
