#include "move/generic.h"

#define KERNEL(types, T)                                                                                         \
  extern "C" void irk_move_##types##_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) { \
    run_move<T, PlainTile<T>>(bufs, params, begin, end);                                                         \
  }
KERNEL(b1, uint8_t)
KERNEL(b2, uint16_t)
KERNEL(b4, uint32_t)
KERNEL(b8, uint64_t)
