#include "resize/generic.h"

IRK_RESIZE(bilinear, scalar, run_bilinear<One>)
IRK_RESIZE(b1, scalar, run_nearest<uint8_t>)
IRK_RESIZE(b2, scalar, run_nearest<uint16_t>)
IRK_RESIZE(b4, scalar, run_nearest<uint32_t>)
IRK_RESIZE(b8, scalar, run_nearest<uint64_t>)
