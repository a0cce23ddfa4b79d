// int8 softmax by table: exponentials, sums and quotients are exact or round once, with no exp at run time.
#pragma once
#include "base/types.h"

namespace irk {

// [outer, n, inner]; an item is one (outer, inner).
struct QsoftmaxParams {
  int64_t n, inner;
  int32_t table[256];  // by max - q; entry 0 is positive, none is negative
  float m;             // int8 result: f32(1 / s)
  int32_t zy;
};

}  // namespace irk
