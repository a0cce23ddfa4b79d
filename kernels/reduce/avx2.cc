#include "base/vec_avx2.h"
#include "reduce/generic.h"

extern "C" void irk_reduce_f32_avx2(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::reduce_impl::run<irk::VecAvx2>(bufs, params, begin, end);
}
