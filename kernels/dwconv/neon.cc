#include "base/vec_neon.h"

namespace {
using V = irk::VecNeon;
}
#include "dwconv/strip.h"

extern "C" void irk_dwconv_f32_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run_strips(bufs, params, begin, end);
}
