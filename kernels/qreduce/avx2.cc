#include "qreduce/generic.h"

IRK_QREDUCE(avx2, Lanes)
