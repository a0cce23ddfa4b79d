#include "pool/generic.h"

IRK_POOL_ALL(neon, Lanes, 16)
