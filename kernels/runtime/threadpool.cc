#include "runtime/threadpool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include <atomic>

#include "base/clock.h"
#include "base/fpenv.h"

namespace irk {
namespace {

constexpr int64_t kSpinNs = 200000;         // how long a worker waits for work before it sleeps
constexpr int64_t kSpinInCallNs = 2000000;  // the same while a call is under way

// What is left of a thread's range, in units: begin in the low half, end in the high half.
struct alignas(128) Share {
  std::atomic<uint64_t> range{0};
};

constexpr uint64_t pack(uint64_t begin, uint64_t end) { return end << 32 | begin; }

// state: job number (32 bits), threads of the job (16), open (1), workers inside (15). A worker enters by a
// compare-and-swap on the whole word, so it can't enter a closed job or another one than it has seen.
constexpr uint64_t kOpen = 1 << 15, kInside = kOpen - 1;
constexpr uint32_t job_of(uint64_t state) { return static_cast<uint32_t>(state >> 32); }
constexpr int threads_of(uint64_t state) { return static_cast<int>(state >> 16 & 0xffff); }

// All zero at first, so that it takes no room in the file.
struct Pool {
  alignas(128) std::atomic<uint64_t> state{0};
  alignas(128) std::atomic<int> owner{0};  // 1: a call has the pool
  std::atomic<int> under_way{0};           // calls, of any model
  std::atomic<uint32_t> calls{0};          // acquisitions so far
  std::atomic<int> sleepers{0};
  std::atomic<int> workers{0};
  std::atomic<bool> refused{false};  // the system gave fewer workers than asked for
  Work work{};
  int64_t unit = 0;  // items per unit of a Share
  Share shares[kMaxThreads];
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;  // guards sleeping and the making of workers
  pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
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

// Takes half of what is left of a share, at least one unit.
bool take(Share& s, uint64_t* begin, uint64_t* end) {
  uint64_t r = s.range.load(std::memory_order_relaxed);
  for (;;) {
    const uint64_t b = r & 0xffffffffu, e = r >> 32;
    if (b >= e) return false;
    const uint64_t n = (e - b + 1) / 2;
    if (s.range.compare_exchange_weak(r, pack(b + n, e), std::memory_order_relaxed)) {
      *begin = b;
      *end = b + n;
      return true;
    }
  }
}

// Own share first, then those of the others.
void work_as(int self, int threads) {
  Pool& p = g_pool;
  const Work& w = p.work;
  void* bufs[2 * kMaxOperands + 1];
  memcpy(bufs, w.bufs, static_cast<size_t>(w.n_bufs) * sizeof(void*));
  bufs[w.n_bufs - 1] = w.scratch + self * w.scratch_stride;
  for (int k = 0; k < threads; k++) {
    Share& s = p.shares[self + k < threads ? self + k : self + k - threads];
    uint64_t b, e;
    while (take(s, &b, &e)) {
      const int64_t begin = static_cast<int64_t>(b) * p.unit, end = static_cast<int64_t>(e) * p.unit;
      w.fn(bufs, w.params, begin, end < w.items ? end : w.items);
    }
  }
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
  pthread_mutex_lock(&p.mutex);
  pthread_cond_broadcast(&p.wake);
  pthread_mutex_unlock(&p.mutex);
}

void* worker(void* arg) {
  Pool& p = g_pool;
  const int self = static_cast<int>(reinterpret_cast<intptr_t>(arg));
  const FpEnv fp;  // the creating thread's rounding and flush modes must not leak into results
  uint32_t seen = job_of(p.state.load(std::memory_order_acquire));
  int64_t idle_since = now_ns();
  for (uint32_t spins = 1;; spins++) {
    uint64_t s = p.state.load(std::memory_order_acquire);
    if (job_of(s) != seen) {
      if ((s & kOpen) && self < threads_of(s)) {
        if (!p.state.compare_exchange_strong(s, s + 1, std::memory_order_acquire)) continue;
        work_as(self, threads_of(s));
        p.state.fetch_sub(1, std::memory_order_release);
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
  p.mutex = PTHREAD_MUTEX_INITIALIZER;
  p.wake = PTHREAD_COND_INITIALIZER;
}

void watch_forks() { pthread_atfork(nullptr, nullptr, after_fork); }

}  // namespace

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

int CallCount::share(int threads) const {
  const int calls = g_pool.under_way.load(std::memory_order_relaxed);
  return calls > 1 ? (threads + calls - 1) / calls : threads;  // a fork within a call leaves the count below 1
}

bool pool_acquire(int threads) {
  Pool& p = g_pool;
  if (threads < 2) return false;
  int free = 0;
  if (!p.owner.compare_exchange_strong(free, 1, std::memory_order_acquire)) return false;
  if (p.workers.load(std::memory_order_relaxed) == 0 && !p.refused.load(std::memory_order_relaxed))
    pool_reserve(threads);  // in the child of a fork
  p.calls.fetch_add(1, std::memory_order_seq_cst);
  wake_sleepers();
  return true;
}

void pool_release() { g_pool.owner.store(0, std::memory_order_release); }

void pool_run(const Work& w, int threads) {
  Pool& p = g_pool;
  const int most = p.workers.load(std::memory_order_relaxed) + 1;
  if (threads > most) threads = most;
  const int64_t by_count = (w.items >> 31) + 1;  // unit numbers fit 32 bits
  const int64_t unit = w.grain > by_count ? w.grain : by_count;
  const int64_t units = w.items / unit + (w.items % unit != 0);
  if (threads > units) threads = static_cast<int>(units);
  if (threads < 2) {
    if (w.items > 0) w.fn(w.bufs, w.params, 0, w.items);
    return;
  }
  p.work = w;
  p.unit = unit;
  for (int t = 0; t < threads; t++)
    p.shares[t].range.store(
        pack(static_cast<uint64_t>(units * t / threads), static_cast<uint64_t>(units * (t + 1) / threads)),
        std::memory_order_relaxed);
  const uint32_t job = job_of(p.state.load(std::memory_order_relaxed)) + 1;
  p.state.store(static_cast<uint64_t>(job) << 32 | static_cast<uint64_t>(threads) << 16 | kOpen,
                std::memory_order_seq_cst);
  wake_sleepers();
  work_as(0, threads);
  p.state.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (uint32_t spins = 1; p.state.load(std::memory_order_acquire) & kInside; spins++) {
    relax();
    if (spins % 1024 == 0) sched_yield();  // the worker may wait for this very core
  }
}

}  // namespace irk
