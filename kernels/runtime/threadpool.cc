#include "runtime/threadpool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "base/clock.h"
#include "base/fpenv.h"
#include "runtime/step_part.h"

namespace irk {
namespace {

constexpr int64_t kSpinNs = 200000;         // how long a worker waits for work before it sleeps
constexpr int64_t kSpinInCallNs = 2000000;  // the same while a call is under way
constexpr int64_t kSpinJoinNs = 100000;     // how long a call waits for a worker's last piece before it sleeps
constexpr int64_t kWakeNs = 50000;          // about what it takes until a sleeping worker works
constexpr int64_t kStallNs = 1000000;       // a worker that is so late was taken off its core
constexpr int64_t kRestNs = 16000000;       // how long calls go alone after that; doubled each time it happens again
constexpr int64_t kLongRestNs = 512000000;  // at most
constexpr int64_t kCreditNs = 20000000;     // of what was saved, the most that counts later
constexpr int64_t kTrialNs = 8000000;       // what may be lost before anything was saved
constexpr int64_t kMoveNs = 1000000;        // from one attempt of a worker to get to another core to the next
constexpr uint32_t kPatience = 16;          // looks at the words of others until their work is taken over
constexpr uint32_t kNapUs = 50;             // a worker whose wait for the others is long looks again so often

// state: job number (32 bits), threads of the job (16), open (1), workers inside (15). A worker enters by a
// compare-and-swap on the whole word, so it can't enter a closed job or another one than it has seen.
constexpr uint64_t kOpen = 1 << 15, kInside = kOpen - 1;
constexpr uint32_t job_of(uint64_t state) { return static_cast<uint32_t>(state >> 32); }
constexpr int threads_of(uint64_t state) { return static_cast<int>(state >> 16 & 0xffff); }

// All zero at first, so that it takes no room in the file.
struct Pool {
  // What a worker needs to begin a job, in one cache line.
  alignas(128) std::atomic<uint64_t> state{0};
  std::atomic<uint32_t> calls{0};  // acquisitions so far
  std::atomic<int> cpu{0};         // where the call runs
  const Work* steps = nullptr;
  int64_t count = 0;
  uint64_t before = 0;                     // steps of earlier jobs
  alignas(128) std::atomic<int> owner{0};  // 1: a call has the pool
  std::atomic<int> under_way{0};           // calls, of any model
  std::atomic<int> sleepers{0};
  std::atomic<int> workers{0};
  std::atomic<bool> refused{false};  // the system gave fewer workers than asked for
  std::atomic<bool> joining{false};  // the call sleeps until workers are done
  std::atomic<int64_t> left{0};      // when the last call left the pool
  std::atomic<int64_t> wakes{0};     // times that sleepers were woken
  // Of the call that has the pool: since when; ns lost in waiting for late workers; ns, as estimated, that workers
  // can save, of the whole call on one thread, and of what workers have done.
  int64_t since = 0, lost = 0, gain = 0;
  double all = 0, helped = 0;
  // When another process has a worker's core, call after call waits for a time slice of that process. What threads
  // saved and lost in calls so far is balanced; if too much is lost, calls go alone for a while and then try again.
  int64_t balance = 0;
  int64_t rest = 0, rest_until = 0;  // length and end of the last such while
  std::atomic<bool> alone{false};    // workers leave the job: a rest has begun
  Share shares[2][kMaxThreads];
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;  // guards sleeping and the making of workers
  pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
  pthread_cond_t done = PTHREAD_COND_INITIALIZER;
};

Pool g_pool;
pthread_once_t g_fork_once = PTHREAD_ONCE_INIT;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

void sleep_until_work(uint32_t job, uint32_t calls) {
  Pool& p = g_pool;
  pthread_mutex_lock(&p.mutex);
  // Counted before looking again: whoever publishes looks at the count after publishing, so one of the two sees the
  // other.
  p.sleepers.fetch_add(1, std::memory_order_seq_cst);
  while (job_of(p.state.load(std::memory_order_seq_cst)) == job && p.calls.load(std::memory_order_seq_cst) == calls)
    pthread_cond_wait(&p.wake, &p.mutex);
  p.sleepers.fetch_sub(1, std::memory_order_seq_cst);
  pthread_mutex_unlock(&p.mutex);
}

void wake_sleepers() {
  Pool& p = g_pool;
  if (p.sleepers.load(std::memory_order_seq_cst) == 0) return;
  p.wakes.fetch_add(1, std::memory_order_relaxed);
  pthread_mutex_lock(&p.mutex);
  pthread_cond_broadcast(&p.wake);
  pthread_mutex_unlock(&p.mutex);
}

// After a worker has told that it is done: the call may sleep until then.
void tell_caller() {
  Pool& p = g_pool;
  if (!p.joining.load(std::memory_order_seq_cst)) return;
  pthread_mutex_lock(&p.mutex);
  pthread_cond_signal(&p.done);
  pthread_mutex_unlock(&p.mutex);
}

// The balance after the call that has the pool, at `now`. Half of what workers do is saved: the rest goes into handing
// it over.
int64_t balance_after(int64_t now) {
  const Pool& p = g_pool;
  const double rate = p.helped < p.all ? 0.5 * p.helped / (p.all - p.helped) : 1;
  const double saved = rate * static_cast<double>(now - p.since - p.lost);
  return p.balance + static_cast<int64_t>(saved < kCreditNs ? saved : kCreditNs) - p.lost;
}

void start_rest(int64_t now) {
  Pool& p = g_pool;
  const bool again = p.rest > 0 && now - p.rest_until < 4 * p.rest;
  p.rest = !again ? kRestNs : 2 * p.rest < kLongRestNs ? 2 * p.rest : kLongRestNs;
  p.rest_until = now + p.rest;
  p.balance = 0;
  p.lost = 0;
  p.since = now;
}

// Until workers are done, which should take `expected` ns at most. One that the system has taken off its core may be
// gone for milliseconds: asleep, this thread leaves it its own core.
template <class Done, class Help>
void wait_for_workers(int64_t expected, Done done, Help help) {
  Pool& p = g_pool;
  int64_t since = 0, now = 0;
  for (uint32_t spins = 1; !done(); spins++) {
    relax();
    if (spins % kPatience == 0) help();
    if (spins % 64) continue;
    now = now_ns();
    if (since == 0) since = now;
    if (now - since < kSpinJoinNs) continue;
    pthread_mutex_lock(&p.mutex);
    p.joining.store(true, std::memory_order_seq_cst);
    while (!done()) pthread_cond_wait(&p.done, &p.mutex);
    p.joining.store(false, std::memory_order_relaxed);
    pthread_mutex_unlock(&p.mutex);
    now = now_ns();
  }
  if (now - since <= kStallNs + expected) return;
  p.lost += now - since;
  if (p.balance + p.gain / 2 - p.lost >= -kTrialNs) return;
  start_rest(now);
  p.alone.store(true, std::memory_order_relaxed);
}

// Until the others are done, for a worker: it sleeps where that takes long.
void wait_for_others(Part* part) {
  int64_t since = 0;
  for (uint32_t spins = 1; !part->complete(); spins++) {
    relax();
    if (spins % kPatience == 0) {
      part->others();
      tell_caller();
    }
    if (spins % 64) continue;
    const int64_t now = now_ns();
    if (since == 0) since = now;
    if (now - since >= kSpinInCallNs) usleep(kNapUs);
  }
}

int share_of(int threads) {
  const int calls = g_pool.under_way.load(std::memory_order_relaxed);
  return calls > 1 ? (threads + calls - 1) / calls : threads;  // a fork within a call leaves the count below 1
}

// The steps of the job, as thread `self` of `threads`; the caller is thread 0.
void work_through(int self, int threads) {
  Pool& p = g_pool;
  for (int64_t i = 0; i < p.count; i++) {
    const Work& w = p.steps[i];
    const Cut c = cut(w, threads);
    const uint64_t step = p.before + static_cast<uint64_t>(i) + 1;
    if (self > 0 && (p.alone.load(std::memory_order_relaxed) || self >= share_of(threads))) return;
    Part part(w, c, self, step, p.shares[step % 2]);
    part.own();
    if (self > 0) {
      tell_caller();
      wait_for_others(&part);
      continue;
    }
    wait_for_workers(
        w.ns < 1e15 ? static_cast<int64_t>(w.ns) / threads : INT64_C(1000000000000000), [&] { return part.complete(); },
        [&] { part.others(); });
    if (c.threads > 1) p.helped += w.ns * (1 - part.share());
  }
}

void* worker(void* arg) {
  Pool& p = g_pool;
  const int self = static_cast<int>(reinterpret_cast<intptr_t>(arg));
  const FpEnv fp;  // the creating thread's rounding and flush modes must not leak into results
  uint32_t seen = job_of(p.state.load(std::memory_order_acquire));
  uint32_t call = 0;
  int64_t idle_since = now_ns(), moved = 0;
  for (uint32_t spins = 1;; spins++) {
    uint64_t s = p.state.load(std::memory_order_acquire);
    if (job_of(s) != seen) {
      if ((s & kOpen) && self < threads_of(s)) {
        if (call != p.calls.load(std::memory_order_relaxed)) {
          call = p.calls.load(std::memory_order_relaxed);
          const int cpu = sched_getcpu();
          if (cpu == p.cpu.load(std::memory_order_relaxed) && now_ns() - moved > kMoveNs) {
            leave_cpu(cpu);
            moved = now_ns();
            continue;
          }
        }
        if (!p.state.compare_exchange_strong(s, s + 1, std::memory_order_acquire)) continue;
        work_through(self, threads_of(s));
        p.state.fetch_sub(1, std::memory_order_seq_cst);
        tell_caller();
      }
      seen = job_of(s);
      spins = 0;
      idle_since = 0;
      continue;
    }
    relax();
    if (spins % 64) continue;
    const uint32_t calls = p.calls.load(std::memory_order_seq_cst);
    const int64_t now = now_ns();
    if (idle_since == 0) idle_since = now;
    if (now - idle_since < (p.owner.load(std::memory_order_relaxed) ? kSpinInCallNs : kSpinNs)) continue;
    sleep_until_work(seen, calls);
    idle_since = 0;
  }
  return nullptr;
}

// The child of a fork has this thread only: forget the workers and whatever call another thread was in.
void after_fork() {
  Pool& p = g_pool;
  p.state.store(0);
  p.owner.store(0);
  p.under_way.store(0);
  p.sleepers.store(0);
  p.workers.store(0);
  p.refused.store(false);
  p.rest = p.rest_until = 0;
  p.balance = 0;
  p.joining.store(false);
  p.mutex = PTHREAD_MUTEX_INITIALIZER;
  p.wake = PTHREAD_COND_INITIALIZER;
  p.done = PTHREAD_COND_INITIALIZER;
}

void watch_forks() { pthread_atfork(nullptr, nullptr, after_fork); }

}  // namespace

bool leave_cpu(int cpu) {
  cpu_set_t all, others;
  if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof all, &all) != 0) return false;
  others = all;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return false;
  sched_setaffinity(0, sizeof all, &all);
  return true;
}

int pool_reserve(int threads) {
  Pool& p = g_pool;
  pthread_once(&g_fork_once, watch_forks);
  if (threads > kMaxThreads) threads = kMaxThreads;
  sigset_t all, old;
  sigfillset(&all);
  pthread_mutex_lock(&p.mutex);
  pthread_sigmask(SIG_SETMASK, &all, &old);  // workers inherit it: signals are the application's business
  p.refused.store(false);
  while (p.workers.load() < threads - 1) {
    const int self = p.workers.load() + 1;
    pthread_t id;
    if (pthread_create(&id, nullptr, worker, reinterpret_cast<void*>(static_cast<intptr_t>(self))) != 0) {
      p.refused.store(true);
      break;
    }
    pthread_detach(id);
    p.workers.store(self);
  }
  const int have = p.workers.load() + 1;
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  pthread_mutex_unlock(&p.mutex);
  return have < threads ? have : threads;
}

CallCount::CallCount() { g_pool.under_way.fetch_add(1, std::memory_order_relaxed); }

CallCount::~CallCount() { g_pool.under_way.fetch_sub(1, std::memory_order_relaxed); }

int CallCount::share(int threads) const { return share_of(threads); }

bool pool_acquire(int threads, int64_t gain, int64_t alone) {
  Pool& p = g_pool;
  if (threads < 2) return false;
  int free = 0;
  if (!p.owner.compare_exchange_strong(free, 1, std::memory_order_acquire)) return false;
  if (p.workers.load(std::memory_order_relaxed) == 0 && !p.refused.load(std::memory_order_relaxed))
    pool_reserve(threads);  // in the child of a fork
  const int64_t now = now_ns();
  // A small call doesn't earn the waking of workers, but for one of a row of calls: then they stay awake.
  if (now < p.rest_until || (gain < kWakeNs && p.sleepers.load(std::memory_order_relaxed) > 0 &&
                             now - p.left.load(std::memory_order_relaxed) > kSpinNs)) {
    p.left.store(now, std::memory_order_relaxed);
    p.owner.store(0, std::memory_order_release);
    return false;
  }
  p.since = now;
  p.lost = 0;
  p.alone.store(false, std::memory_order_relaxed);
  p.gain = gain;
  p.all = static_cast<double>(alone);
  p.helped = 0;
  p.cpu.store(sched_getcpu(), std::memory_order_relaxed);
  p.calls.fetch_add(1, std::memory_order_seq_cst);
  wake_sleepers();
  return true;
}

void pool_release() {
  Pool& p = g_pool;
  const int64_t now = now_ns();
  if (now >= p.rest_until) {
    const int64_t balance = balance_after(now);
    p.balance = balance < kCreditNs ? balance : kCreditNs;
    if (balance < -kTrialNs) start_rest(now);
  }
  p.left.store(now, std::memory_order_relaxed);
  p.owner.store(0, std::memory_order_release);
}

int64_t pool_wakes() { return g_pool.wakes.load(std::memory_order_relaxed); }

void pool_run(const Work* steps, int64_t count, int threads) {
  Pool& p = g_pool;
  const int most = p.workers.load(std::memory_order_relaxed) + 1;
  if (threads > most) threads = most;
  if (threads < 2 || p.since < p.rest_until) {  // a rest that an earlier job of this call began
    for (const Work* w = steps; w < steps + count; w++)
      if (w->items > 0) w->fn(w->bufs, w->params, 0, w->items);
    return;
  }
  if (p.before + static_cast<uint64_t>(p.count + count) >= kMostSteps) {
    for (auto& shares : p.shares)
      for (Share& s : shares) {
        s.left.store(0, std::memory_order_relaxed);
        s.done.store(0, std::memory_order_relaxed);
      }
    p.before = 0;
    p.count = 0;
  }
  p.before += static_cast<uint64_t>(p.count);
  p.steps = steps;
  p.count = count;
  const uint32_t job = job_of(p.state.load(std::memory_order_relaxed)) + 1;
  p.state.store(static_cast<uint64_t>(job) << 32 | static_cast<uint64_t>(threads) << 16 | kOpen,
                std::memory_order_seq_cst);
  wake_sleepers();
  work_through(0, threads);
  p.state.fetch_and(~kOpen, std::memory_order_acq_rel);
  wait_for_workers(0, [&] { return !(p.state.load(std::memory_order_acquire) & kInside); }, [] {});
}

}  // namespace irk
