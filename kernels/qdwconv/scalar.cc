// Plain C++, straight from the definition: the weights as they are stored, taps outside the image skipped.
#include "qdwconv/qdwconv.h"

namespace irk {
namespace {

int32_t sum_of_taps(const QDwParams& p, const int8_t* x, const int8_t* w, int64_t oh, int64_t ow) {
  uint32_t acc = 0;  // unsigned: partial sums may wrap
  for (int64_t kh = 0; kh < p.kh; kh++) {
    const int64_t ih = oh * p.sh - p.pt + kh * p.dh;
    if (ih < 0 || ih >= p.ih) continue;
    for (int64_t kw = 0; kw < p.kw; kw++) {
      const int64_t iw = ow * p.sw - p.pl + kw * p.dw;
      if (iw < 0 || iw >= p.iw) continue;
      acc += static_cast<uint32_t>((x[(ih * p.iw + iw) * p.c] - p.zx) * w[kh * p.kw + kw]);
    }
  }
  return static_cast<int32_t>(acc);
}

void run(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QDwParams& p = *static_cast<const QDwParams*>(params);
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  const int8_t* w = static_cast<const int8_t*>(bufs[1]);
  const int32_t* bias = static_cast<const int32_t*>(bufs[2]);
  const float* m = static_cast<const float*>(bufs[3]);
  const int8_t* res = p.residual ? static_cast<const int8_t*>(bufs[4]) : nullptr;
  const float lo = static_cast<float>(p.lo - p.zy), hi = static_cast<float>(p.hi - p.zy);
  for (int64_t item = begin; item < end; item++) {
    const int64_t n = item / p.bands, oh = item % p.bands;  // bands are rows here
    const int8_t* image = x + n * p.ih * p.iw * p.c;
    for (int64_t ow = 0; ow < p.ow; ow++)
      for (int64_t c = 0; c < p.c; c++) {
        const int64_t at = (item * p.ow + ow) * p.c + c;
        uint32_t acc = static_cast<uint32_t>(sum_of_taps(p, image + c, w + c * p.kh * p.kw, oh, ow));
        if (bias) acc += static_cast<uint32_t>(bias[c]);
        float y = static_cast<float>(static_cast<int32_t>(acc)) * m[c];
        if (p.f32) {
          static_cast<float*>(bufs[5])[at] = y;
          continue;
        }
        if (res) y += static_cast<float>(res[at] - p.zr) * p.mr;
        y = y < lo ? lo : y > hi ? hi : y;
        y = (y + 12582912.f) - 12582912.f;  // 1.5 * 2^23: rounds to the nearest integer, ties to even
        static_cast<int8_t*>(bufs[5])[at] = static_cast<int8_t>(static_cast<int32_t>(y) + p.zy);
      }
  }
}

}  // namespace
}  // namespace irk

extern "C" void irk_qdwconv_s8s8_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::run(bufs, params, begin, end);
}
