#include "resize/generic.h"

IRK_RESIZE(bilinear, neon, run_bilinear<Lanes>)
