#include "qpool/generic.h"

IRK_QPOOL(avx2, Lanes)
