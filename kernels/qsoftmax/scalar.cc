#include "qsoftmax/generic.h"

IRK_QSOFTMAX(scalar, One)
