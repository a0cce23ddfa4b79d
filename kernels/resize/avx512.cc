#include "resize/generic.h"

IRK_RESIZE(bilinear, avx512, run_bilinear<Lanes>)
