#include "base/vec_scalar.h"
#include "norm/generic.h"

extern "C" void irk_norm_f32_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::norm_impl::run<irk::VecScalar>(bufs, params, begin, end);
}
