#include "base/types.h"
#include "testing/testing.h"

// Every intermediate value passes through the thread's scratch: two threads with one scratch would give wrong results.
extern "C" void irk_testing_f32_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::TestingParams& p = *static_cast<const irk::TestingParams*>(params);
  const float* x = static_cast<const float*>(bufs[0]);
  float* y = static_cast<float*>(bufs[p.n_in]);
  float* scratch = static_cast<float*>(bufs[p.n_in + 1]);
  for (int64_t i = begin; i < end; i += p.scratch) {
    const int64_t n = end - i < p.scratch ? end - i : p.scratch;
    for (int64_t k = 0; k < n; k++) scratch[k] = p.factor * x[i + k];
    for (int64_t k = 0; k < n; k++) y[i + k] = scratch[k] + static_cast<float>(i + k);
  }
}
