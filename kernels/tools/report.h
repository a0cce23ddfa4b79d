// What irkit-run prints.
#pragma once
#include "irkit.h"

namespace tool {

// One call's buffers.
struct Call {
  irk_model* model;
  void **in, **out;
  size_t *in_bytes, *out_bytes;
  int n_in, n_out;
};

void describe(const irk_model* model, const char* path);

// Time of a call; `repeat` 0 and `warmup` -1 are chosen by the clock.
irk_code benchmark(const Call& call, int repeat, int warmup, irk_error* err);
// Time of each step, and of all steps of a kernel together.
irk_code profile(const Call& call, int repeat, int warmup, irk_error* err);

}  // namespace tool
