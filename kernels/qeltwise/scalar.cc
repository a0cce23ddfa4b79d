#include "qeltwise/generic.h"

IRK_QELTWISE_ALL(scalar, One)
