#include "qsoftmax/generic.h"

IRK_QSOFTMAX(avx2, Lanes)
