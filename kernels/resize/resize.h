// Resizing by tables of source indices (and weights), made by the compiler and checked when loaded.
#pragma once
#include "base/types.h"

namespace irk {

// One image is [H, W, inner] in memory; there are outer of them. An item is one output row.
struct ResizeParams {
  int64_t outer, h, w, inner, oh, ow;
  int n_in;
  const int32_t *row0, *row1, *col0, *col1;  // nearest uses row0 and col0
  const float *row_t, *col_t;                // weight of row1, col1
};

}  // namespace irk
