#include "runtime/scratch.h"

#include <stdlib.h>

namespace irk {
namespace {

constexpr int64_t round_up(int64_t v) { return (v + kScratchAlign - 1) / kScratchAlign * kScratchAlign; }

struct Range {
  int64_t begin, end;
  int32_t tensor;
};

int by_begin(const void* a, const void* b) {
  const Range *x = static_cast<const Range*>(a), *y = static_cast<const Range*>(b);
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

}  // namespace

// From the last step to the first, for then it is known which tensors are still to be read. A step's place is that of
// the step after it, if that is free: memory that is used again is in the cache.
Status place_scratch(const Plan& plan, const Array<int64_t>& need, Array<int64_t>* at, int64_t* end) {
  Array<Range> ranges;
  Array<uint8_t> live;  // by tensor: it is read later, or the step at hand writes it
  int64_t n = 0;
  for (const PlanTensor& t : plan.tensors) n += t.place == Place::arena;
  if (!ranges.alloc(n) || !live.alloc(plan.tensors.size()) || !at->alloc(need.size()))
    return fail(Code::out_of_memory, "out of memory while placing scratch");
  n = 0;
  for (int64_t i = 0; i < plan.tensors.size(); i++) {
    const PlanTensor& t = plan.tensors[i];
    if (t.place == Place::arena) ranges[n++] = {t.pos, t.pos + t.t.bytes, static_cast<int32_t>(i)};
  }
  if (n > 1) qsort(ranges.data(), static_cast<size_t>(n), sizeof(Range), by_begin);
  int64_t last = 0;
  *end = 0;
  for (int64_t i = plan.steps.size(); i-- > 0;) {
    const PlanStep& s = plan.steps[i];
    const int32_t* ops = s.n_in + s.n_out ? &plan.operands[s.operands] : nullptr;
    for (int k = 0; k < s.n_in + s.n_out; k++)
      if (ops[k] >= 0) live[ops[k]] = 1;
    if (need[i] > 0) {
      int64_t place = -1, free_from = 0;
      bool last_is_free = true;
      for (const Range& r : ranges) {
        if (!live[r.tensor]) continue;
        if (place < 0 && free_from + need[i] <= r.begin) place = free_from;
        if (r.begin < last + need[i] && last < r.end) last_is_free = false;
        if (round_up(r.end) > free_from) free_from = round_up(r.end);
      }
      if (place < 0) place = free_from;
      const bool worse = last_is_free && last + need[i] > plan.arena && place + need[i] < last + need[i];
      if (!last_is_free || worse) last = place;
      (*at)[i] = last;
      if (last + need[i] > *end) *end = last + need[i];
    }
    // Before the step, what it writes held nothing of use, but for what it also reads.
    for (int k = s.n_in; k < s.n_in + s.n_out; k++) {
      const PlanTensor& out = plan.tensors[ops[k]];
      if (out.place != Place::arena) continue;
      for (const Range& r : ranges)
        if (out.pos <= r.begin && r.end <= out.pos + out.t.bytes) live[r.tensor] = 0;
    }
    for (int k = 0; k < s.n_in; k++)
      if (ops[k] >= 0) live[ops[k]] = 1;
  }
  return Status();
}

}  // namespace irk
