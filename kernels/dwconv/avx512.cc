#include "base/vec_avx512.h"

namespace {
using V = irk::VecAvx512;
}
#include "dwconv/wide.h"

extern "C" void irk_dwconv_f32_avx512(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run_wide(bufs, params, begin, end);
}
