#include "base/vec_avx512.h"
#include "softmax/generic.h"

extern "C" void irk_softmax_f32_avx512(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::softmax_impl::run<irk::VecAvx512>(bufs, params, begin, end);
}
