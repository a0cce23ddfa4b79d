#include "qreduce/generic.h"

IRK_QREDUCE(scalar, One)
