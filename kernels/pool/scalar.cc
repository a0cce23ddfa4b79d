#include "pool/generic.h"

IRK_POOL_ALL(scalar, One, 8)
