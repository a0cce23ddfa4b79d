#include "qsoftmax/generic.h"

IRK_QSOFTMAX(neon, Lanes)
