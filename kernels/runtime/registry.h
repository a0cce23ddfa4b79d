// The families and kernels compiled into this binary.
#pragma once
#include "runtime/family.h"

namespace irk {

// The family's prepare function; null when this build has no such family.
PrepareFn find_family(const char* name);

}  // namespace irk
