#include "base/vec_neon.h"
#include "softmax/generic.h"

extern "C" void irk_softmax_f32_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::softmax_impl::run<irk::VecNeon>(bufs, params, begin, end);
}
