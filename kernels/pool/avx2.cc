#include "pool/generic.h"

IRK_POOL_ALL(avx2, Lanes, 32)
