#include "base/vec_scalar.h"

namespace {
using V = irk::VecScalar;
}
#include "dwconv/generic.h"

extern "C" void irk_dwconv_f32_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run_rows(bufs, params, begin, end);
}
