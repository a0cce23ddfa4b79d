#include "base/vec_scalar.h"
#include "eltwise/generic.h"

extern "C" void irk_eltwise_f32_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::eltwise_impl::run<irk::VecScalar>(bufs, params, begin, end);
}
