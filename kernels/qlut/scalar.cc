#include "qlut/generic.h"

extern "C" void irk_qlut_one_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run_one<PlainLookup>(bufs, params, begin, end);
}
extern "C" void irk_qlut_channel_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run_channel(bufs, params, begin, end);
}
