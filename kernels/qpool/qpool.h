// int8 average pooling: exact integer sums, one product, one rounding.
#pragma once
#include "pool/windows.h"

namespace irk {

constexpr int64_t kQpoolBlock = 256;

struct QpoolParams {
  PoolShape shape;
  double sx, sy;  // scales; a window's multiplier is f32(sx / (sy * count))
  int32_t zx, zy;
};

}  // namespace irk
