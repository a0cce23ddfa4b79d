#include "base/vec_scalar.h"
#include "reduce/generic.h"

extern "C" void irk_reduce_f32_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::reduce_impl::run<irk::VecScalar>(bufs, params, begin, end);
}
