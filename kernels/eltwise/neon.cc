#include "base/vec_neon.h"
#include "eltwise/generic.h"

extern "C" void irk_eltwise_f32_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::eltwise_impl::run<irk::VecNeon>(bufs, params, begin, end);
}
