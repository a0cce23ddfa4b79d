#include "qeltwise/generic.h"

IRK_QELTWISE_ALL(avx512, Lanes)
