// Loops that do nothing but what a core does fastest: the limits that `irkit bench` holds kernels against. Part of the
// Python module only. Arithmetic is a chain of independent accumulators, enough of them to hide the latency.
#pragma once
#include "base/types.h"

namespace irk {

struct PeakLoop {
  const char* kind;  // "fp32", "int8"
  Isa isa;
  double ops;  // of one round; a multiply-accumulate is two
  void (*run)(int64_t rounds);
};

// The loops of this build, lowest level first; those above cpu_isa() must not be run.
const PeakLoop* peak_loops(int* count);

// Reads `bytes` (a multiple of 1024, 64-byte aligned) `rounds` times with the widest loads this CPU has.
void peak_read(const void* data, int64_t bytes, int64_t rounds);

}  // namespace irk
