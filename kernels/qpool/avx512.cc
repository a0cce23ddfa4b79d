#include "qpool/generic.h"

IRK_QPOOL(avx512, Lanes)
