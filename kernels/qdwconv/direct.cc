// Plans and packs for the direct kernels of NEON.
#include "qdwconv/direct.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/small_sum.h"

namespace irk {
namespace {

constexpr int64_t kL1 = 32768, kL1Dot = 65536;  // of small cores, of those that have dot products

// Bytes of packed weights of a block of channels c0 to c0 + width: what the structs of direct_dot.h and direct_wide.h
// load.
int64_t block_bytes(bool dot, int64_t stride) { return !dot ? (stride == 1 ? 72 : 144) : stride == 1 ? 192 : 160; }

int8_t weight(const QConvShape& s, int64_t c, int64_t row, int64_t column) {
  return row < 0 || row > 2 ? 0 : s.w[c * 9 + row * 3 + column];
}

void pack_wide(const QConvShape& s, int64_t c0, int64_t width, int8_t* w) {
  for (int64_t k = 0; k < 9; k++)
    for (int64_t e = 0; e < width; e++) *w++ = weight(s, c0 + e, k % 3, k / 3);
}

void pack_dot1(const QConvShape& s, int64_t c0, int8_t* w) {
  for (int64_t r = 0; r < 2; r++)
    for (int64_t column = 0; column < 3; column++)
      for (int64_t e = 0; e < 32; e++) *w++ = weight(s, c0 + e / 4, e % 4 - r, column);
}

void pack_dot2(const QConvShape& s, int64_t c0, int8_t* w) {
  for (int64_t e = 0; e < 64; e++) w[e] = weight(s, c0 + e / 4, e % 4, 0);
  for (int64_t e = 0; e < 64; e++)
    w[64 + e] = e % 4 < 3 ? weight(s, c0 + e / 4, e % 4, 2) : weight(s, c0 + e / 4, 0, 1);
  for (int64_t e = 0; e < 32; e++) w[128 + e] = weight(s, c0 + e % 16, 1 + e / 16, 1);
}

bool three_fit(const QConvShape& s, int64_t c0, int64_t width) {
  for (int64_t c = c0; c < c0 + width; c++)
    for (int64_t column = 0; column < 3; column++) {
      int sum = 0;
      for (int64_t row = 0; row < 3; row++) sum += abs(weight(s, c, row, column));
      if (sum > 255) return false;
    }
  return true;
}

int64_t clip(int64_t v, int64_t hi) { return v < 0 ? 0 : v > hi ? hi : v; }

}  // namespace

uint8_t qdw_lanes(const QConvShape& s, int64_t c0, int64_t width, const double* sums, int32_t* bias, float* m) {
  bool scaled = s.zy % 2 == 0 && s.lo == -128 && s.hi == 127, small = true;
  for (int64_t c = c0; c < c0 + width; c++) {
    scaled = scaled && sums[c] * fabs(s.m[c]) <= kSmallScaled;
    small = scaled && small && sums[c] <= kSmallSum;
  }
  const int64_t taps = s.kh * s.kw;
  for (int64_t e = 0; e < width; e++) {
    const int64_t c = c0 + e;
    int64_t sum = 0;
    for (int64_t k = 0; k < taps; k++) sum += s.w[c * taps + k];
    const int32_t start = static_cast<int32_t>(static_cast<uint32_t>((s.bias ? s.bias[c] : 0) - s.zx * sum));
    bias[e] = small ? small_sum_bias(start) : start;
    m[e] = s.m[c];
  }
  return small ? kQDwScaled | kQDwSmall : scaled ? kQDwScaled : 0;
}

Status qdw_direct(StepContext& ctx, const QConvShape& s, Isa isa, const double* sums, const QDwDirect** out) {
  *out = nullptr;
  const bool dot = isa == Isa::neondot;
  const int64_t stride = s.sh, width = stride == 1 ? 8 : 16, rows = stride == 1 ? 2 : 1;
  if ((isa != Isa::neon && !dot) || s.kh != 3 || s.kw != 3 || s.sh != s.sw || stride > 2 || s.dh != 1 || s.dw != 1 ||
      s.f32 || s.residual || s.ic < width || s.pl > (stride == 1 ? 2 : 1))
    return Status();
  const int64_t blocks = (s.ic + width - 1) / width, line_bytes = s.iw * s.ic;
  QDwDirect* p = static_cast<QDwDirect*>(ctx.alloc->alloc(sizeof(QDwDirect)));
  const int8_t zx = static_cast<int8_t>(s.zx);
  const int8_t* line = static_cast<const int8_t*>(ctx.alloc->filled(zx, line_bytes));
  int8_t* w = static_cast<int8_t*>(ctx.alloc->alloc(blocks * block_bytes(dot, stride)));
  int32_t* bias = static_cast<int32_t*>(ctx.alloc->alloc(blocks * width * 4));
  float* m = static_cast<float*>(ctx.alloc->alloc(blocks * width * 4));
  uint8_t* kinds = static_cast<uint8_t*>(ctx.alloc->alloc(blocks));
  if (!p || !line || !w || !bias || !m || !kinds) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  *p = QDwDirect();
  p->ih = s.ih, p->iw = s.iw, p->c = s.ic, p->oh = s.oh, p->ow = s.ow, p->pt = s.pt, p->pl = s.pl;
  p->blocks = s.ic / width, p->rest = s.ic % width != 0;
  // A band's input should stay in L1 until all blocks of channels have read it.
  const int64_t fitting = ((dot ? kL1Dot : kL1) / line_bytes - 3 + stride) / (rows * stride);
  p->band = rows * (fitting < 1 ? 1 : fitting);
  if (p->band > s.oh) p->band = s.oh;
  p->bands = (s.oh + p->band - 1) / p->band;
  p->inner = stride == 1 ? clip(s.iw + s.pl - 2, s.ow) : clip((s.iw + s.pl - 1) / 2, s.ow);
  p->stride = static_cast<int32_t>(stride), p->zx = static_cast<int32_t>(s.zx), p->zy = static_cast<int32_t>(s.zy);
  p->lo = static_cast<int32_t>(s.lo), p->hi = static_cast<int32_t>(s.hi);
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t c0 = b < p->blocks ? b * width : s.ic - width;
    kinds[b] = qdw_lanes(s, c0, width, sums, bias + b * width, m + b * width);
    int8_t* at = w + b * block_bytes(dot, stride);
    if (!dot)
      pack_wide(s, c0, width, at);
    else if (stride == 1)
      pack_dot1(s, c0, at);
    else
      pack_dot2(s, c0, at);
    if (kinds[b] & kQDwSmall && three_fit(s, c0, width)) kinds[b] |= kQDwThree;
  }
  p->line = line, p->w = w, p->bias = bias, p->m = m, p->kinds = kinds;
  *out = p;
  return Status();
}

}  // namespace irk
