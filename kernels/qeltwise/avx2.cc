#include "qeltwise/generic.h"

IRK_QELTWISE_ALL(avx2, Lanes)
