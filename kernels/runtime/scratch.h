// Where steps keep their working memory: in parts of the arena that hold nothing while the step runs.
#pragma once
#include "base/array.h"
#include "runtime/plan.h"

namespace irk {

constexpr int64_t kScratchAlign = 128;  // two threads never share a line, nor a pair of lines

// need[i]: bytes that step i wants, a multiple of kScratchAlign. at[i] gets their offset from the arena's beginning,
// a multiple too, and *end where the last of them ends: what lies beyond plan.arena has to be allocated behind it.
Status place_scratch(const Plan& plan, const Array<int64_t>& need, Array<int64_t>* at, int64_t* end);

}  // namespace irk
