// Pooling windows along one axis, as checked tables: which input indices a window holds and what it divides by.
#pragma once
#include "runtime/family.h"

namespace irk {

struct PoolWindow {
  int64_t first, count;  // input indices first, first + dilation, ...; all within the input
  int64_t divisor;       // of averages, along this axis
};

// One image is [H, W, inner] in memory; there are outer of them.
struct PoolShape {
  int64_t outer, h, w, inner, oh, ow, dil_h, dil_w;
  const PoolWindow *rows, *cols;
  Band band;  // of a chain's stage without its items; no rows when the windows don't lie at equal distances
};

// Reads attrs axis (of H in memory; W follows), kernel, strides, pads (top, left, bottom, right), and for max:
// dilation, for averages: ceil, include_pad; or only axis with adaptive windows. Checks them against both tensors.
Status read_pool_shape(const StepContext& ctx, bool adaptive, bool average, PoolShape* shape);

}  // namespace irk
