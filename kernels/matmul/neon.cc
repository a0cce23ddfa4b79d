#include "base/vec_neon.h"
#include "matmul/generic.h"

extern "C" void irk_matmul_f32_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::matmul_impl::run<irk::VecNeon, 6, 4>(bufs, params, begin, end);
}
