#include "qpool/generic.h"

IRK_QPOOL(scalar, One)
