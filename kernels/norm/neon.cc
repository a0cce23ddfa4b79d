#include "base/vec_neon.h"
#include "norm/generic.h"

extern "C" void irk_norm_f32_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::norm_impl::run<irk::VecNeon>(bufs, params, begin, end);
}
