#include "base/vec_scalar.h"
#include "matmul/generic.h"

extern "C" void irk_matmul_f32_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::matmul_impl::run<irk::VecScalar, 2, 2>(bufs, params, begin, end);
}
