#include "resize/generic.h"

IRK_RESIZE(bilinear, avx2, run_bilinear<Lanes>)
