#include "pool/generic.h"

IRK_POOL_ALL(avx512, Lanes, 64)
