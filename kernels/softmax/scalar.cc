#include "base/vec_scalar.h"
#include "softmax/generic.h"

extern "C" void irk_softmax_f32_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::softmax_impl::run<irk::VecScalar>(bufs, params, begin, end);
}
