#include "qreduce/generic.h"

IRK_QREDUCE(avx512, Lanes)
