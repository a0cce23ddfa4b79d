#include "base/vec_scalar.h"

namespace {
using V = irk::VecScalar;
}  // namespace
#include "spmm/generic.h"

extern "C" void irk_spmm_f32_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run(bufs, params, begin, end);
}
