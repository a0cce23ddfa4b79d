#include "base/vec_neon.h"
#include "reduce/generic.h"

extern "C" void irk_reduce_f32_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::reduce_impl::run<irk::VecNeon>(bufs, params, begin, end);
}
