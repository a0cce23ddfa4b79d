// int8 chains of any families that can be stages (runtime/family.h: Band).
#pragma once
#include "runtime/family.h"

namespace irk {

Status prepare_bands(StepContext& ctx, PreparedStep* out);

}  // namespace irk
