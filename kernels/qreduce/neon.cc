#include "qreduce/generic.h"

IRK_QREDUCE(neon, Lanes)
