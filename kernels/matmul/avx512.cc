#include "base/vec_avx512.h"
#include "matmul/generic.h"

extern "C" void irk_matmul_f32_avx512(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::matmul_impl::run<irk::VecAvx512, 6, 4>(bufs, params, begin, end);
}
