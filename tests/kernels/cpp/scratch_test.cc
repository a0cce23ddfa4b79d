// Where scratch is placed: on no byte that the step reads or writes, nor on one that a later step still reads.
#include "runtime/scratch.h"

#include "check.h"

namespace {

constexpr int kArena = 48, kRoom = 2 * kArena;  // in units of the alignment

uint32_t g_state = 1;

int any(int n) {
  g_state = g_state * 1664525u + 1013904223u;
  return static_cast<int>((g_state >> 8) % static_cast<uint32_t>(n));
}

// A plan of `steps` steps with up to three operands each, in an arena or beside it; its other fields stay empty.
void make(irk::Plan* plan, int steps, int tensors) {
  CHECK(plan->tensors.alloc(tensors) && plan->steps.alloc(steps) && plan->operands.alloc(3 * steps));
  plan->arena = kArena * irk::kScratchAlign;
  for (irk::PlanTensor& t : plan->tensors) {
    const int begin = any(kArena), most = kArena - begin < 16 ? kArena - begin : 16;
    t.place = any(8) ? irk::Place::arena : irk::Place::input;
    t.pos = t.place == irk::Place::arena ? begin * irk::kScratchAlign : 0;
    t.t.bytes = (1 + any(most)) * irk::kScratchAlign - any(100);
  }
  for (int i = 0; i < steps; i++) {
    plan->steps[i].n_in = 1 + any(2), plan->steps[i].n_out = 1, plan->steps[i].operands = 3 * i;
    for (int k = 0; k < 3; k++) plan->operands[3 * i + k] = any(tensors);
    if (plan->steps[i].n_in == 2 && any(4) == 0) plan->operands[3 * i + 1] = -1;
  }
}

struct Bytes {
  bool at[kRoom * irk::kScratchAlign] = {};
};

void cover(const irk::PlanTensor& t, Bytes* bytes, bool value) {
  for (int64_t b = t.pos; t.place == irk::Place::arena && b < t.pos + t.t.bytes; b++) bytes->at[b] = value;
}

void check(const irk::Plan& plan, const irk::Array<int64_t>& need, int64_t* beyond) {
  irk::Array<int64_t> at;
  int64_t end = -1, most = 0;
  CHECK_OK(irk::place_scratch(plan, need, &at, &end));
  static Bytes live;  // read by a later step
  live = Bytes();
  int bad = 0;
  for (int64_t i = plan.steps.size(); i-- > 0;) {
    const irk::PlanStep& s = plan.steps[i];
    static Bytes used;
    used = live;
    for (int k = 0; k < s.n_in + s.n_out; k++)
      if (plan.operands[s.operands + k] >= 0) cover(plan.tensors[plan.operands[s.operands + k]], &used, true);
    if (need[i]) {
      bad += at[i] < 0 || at[i] % irk::kScratchAlign != 0;
      most = at[i] + need[i] > most ? at[i] + need[i] : most;
      for (int64_t b = at[i]; b < at[i] + need[i] && b < plan.arena; b++) bad += used.at[b];
    }
    cover(plan.tensors[plan.operands[s.operands + s.n_in]], &live, false);
    for (int k = 0; k < s.n_in; k++)
      if (plan.operands[s.operands + k] >= 0) cover(plan.tensors[plan.operands[s.operands + k]], &live, true);
  }
  CHECK(bad == 0);
  CHECK(end == most);
  if (end > plan.arena) ++*beyond;
}

void random_plans() {
  int64_t beyond = 0;
  constexpr int kPlans = 2000;
  for (int n = 0; n < kPlans; n++) {
    irk::Plan plan;
    irk::Array<int64_t> need;
    const int steps = 1 + any(12);
    make(&plan, steps, 1 + any(10));
    CHECK(need.alloc(steps));
    for (int64_t& v : need) v = any(3) ? any(n % 2 ? 8 : 24) * irk::kScratchAlign : 0;
    check(plan, need, &beyond);
  }
  CHECK(beyond > kPlans / 50 && beyond < kPlans / 2);  // both cases happen
}

// a -> b -> c, one after the other in the arena: what has been read is free again.
void chain() {
  irk::Plan plan;
  irk::Array<int64_t> need, at;
  CHECK(plan.tensors.alloc(3) && plan.steps.alloc(2) && plan.operands.alloc(4) && need.alloc(2));
  const int64_t unit = irk::kScratchAlign;
  for (int i = 0; i < 3; i++) {
    plan.tensors[i].place = irk::Place::arena;
    plan.tensors[i].pos = i * 4 * unit;
    plan.tensors[i].t.bytes = 4 * unit;
  }
  for (int i = 0; i < 2; i++) {
    plan.steps[i].n_in = plan.steps[i].n_out = 1, plan.steps[i].operands = 2 * i;
    plan.operands[2 * i] = i, plan.operands[2 * i + 1] = i + 1;
    need[i] = 4 * unit;
  }
  plan.arena = 12 * unit;
  int64_t end = 0;
  CHECK_OK(irk::place_scratch(plan, need, &at, &end));
  CHECK(at[0] == 8 * unit && at[1] == 0 && end == 12 * unit);
  need[1] = 5 * unit;  // fits nowhere within
  CHECK_OK(irk::place_scratch(plan, need, &at, &end));
  CHECK(at[1] == 12 * unit && end == 17 * unit);
}

}  // namespace

int main() {
  random_plans();
  chain();
  return report("scratch_test");
}
