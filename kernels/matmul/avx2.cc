#include "base/vec_avx2.h"
#include "matmul/generic.h"

extern "C" void irk_matmul_f32_avx2(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::matmul_impl::run<irk::VecAvx2, 6, 2>(bufs, params, begin, end);
}
