// One pool of worker threads per process, shared by all models.
//
// A call of a model acquires the pool for its whole length; a call that finds it taken runs on its own thread alone,
// with the same results. Workers spin while a call is under way and shortly after, then sleep.
//
// A job is a row of steps, which all its threads go through side by side: handing over each by itself would cost more
// than a step of a microsecond or two can gain. A step is split into one range per thread (the same rows stay in the
// same core's cache from step to step); who is done takes half of what another has left, so a worker that comes late or
// that the system holds up delays nobody but by the piece it is at. When all of a step is done, the next one begins.
#pragma once
#include "base/types.h"

namespace irk {

struct Work {
  KernelFn fn;
  const void* params;
  void* const* bufs;  // n_bufs pointers; the last is the scratch of thread 0
  int n_bufs;
  int threads;             // at most; 1: the caller only
  int64_t scratch_stride;  // from one thread's scratch to the next one's
  int64_t items, grain;
  double ns;  // on one thread, about
};

// Makes sure that the process has `threads - 1` workers. Returns how many threads a call can have with them: fewer when
// the system gives no more. Never called by a run, but for the first one in the child of a fork.
int pool_reserve(int threads);

// Counts a call as under way while it lives. Calls share the cores: each uses its part of its threads only.
class CallCount {
 public:
  CallCount();
  ~CallCount();
  CallCount(const CallCount&) = delete;
  CallCount& operator=(const CallCount&) = delete;
  int share(int threads) const;  // at least 1
};

// Takes the pool for a call that saves about `gain` ns by it, of `alone` ns that it would take without. False when
// another call has the pool; when `threads` < 2; when workers sleep and waking them would cost more than is gained; or
// when, of late, threads lost more than they gained, as other processes use the cores. Release after success only.
bool pool_acquire(int threads, int64_t gain, int64_t alone);
void pool_release();

// Moves this thread to another of the CPUs that it may run on; false when there is none. A worker that the system put
// on the caller's core, because others were busy then, would wait there until the caller sleeps, step after step.
bool leave_cpu(int cpu);

// How often sleeping workers were woken so far, for tests.
int64_t pool_wakes();

// Runs `count` steps, one after the other, on `threads` threads including this one, or fewer. The caller has acquired
// the pool.
void pool_run(const Work* steps, int64_t count, int threads);

}  // namespace irk
