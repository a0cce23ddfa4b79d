#include "qpool/generic.h"

IRK_QPOOL(neon, Lanes)
