#include "qeltwise/generic.h"

IRK_QELTWISE_ALL(neon, Lanes)
