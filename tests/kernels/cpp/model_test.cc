// Loading and running: thread counts, concurrent calls, the C API, no allocation in a call, every failing allocation.
#include "runtime/model.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>
#include <new>

#include "artifact.h"
#include "base/cpu.h"
#include "base/fpenv.h"
#include "check.h"
#include "irkit.h"
#include "runtime/threadpool.h"

#if defined(IRKIT_WRAP_MALLOC)
// The linker sends the runtime's allocations here (-Wl,--wrap), where they are counted, and the chosen one fails.
namespace {
std::atomic<int64_t> g_allocs{0};
std::atomic<int64_t> g_fail_at{-1};
bool refuse() { return g_allocs.fetch_add(1) == g_fail_at.load(); }
}  // namespace
extern "C" {
void* __real_malloc(size_t);
void* __real_calloc(size_t, size_t);
int __real_posix_memalign(void**, size_t, size_t);
void* __wrap_malloc(size_t n) { return refuse() ? nullptr : __real_malloc(n); }
void* __wrap_calloc(size_t n, size_t m) { return refuse() ? nullptr : __real_calloc(n, m); }
int __wrap_posix_memalign(void** p, size_t a, size_t n) { return refuse() ? 12 : __real_posix_memalign(p, a, n); }
}
void* operator new(size_t n, const std::nothrow_t&) noexcept { return refuse() ? nullptr : __real_malloc(n); }
void operator delete(void* p) noexcept { free(p); }
void operator delete(void* p, size_t) noexcept { free(p); }
#endif

namespace {

using irk::Code;
using irk::LoadOptions;
using irk::Model;
using irk::Status;

Blob g_blob;
float g_x[kCount];

Status load(int threads, Model** m) {
  LoadOptions o;
  o.threads = threads;
  return Model::load_memory(g_blob.bytes, g_blob.size, o, m);
}

bool right(const float* y) {
  for (int i = 0; i < kCount; i++)
    if (y[i] != expected(g_x[i], i)) return false;
  return true;
}

Status call(Model* m, float* y) {
  memset(y, 0x5a, kCount * sizeof(float));
  const void* in[] = {g_x};
  void* out[] = {y};
  return m->run(in, out);
}

void thread_counts() {
  for (int threads : {1, 2, 3, 7, 16}) {
    Model* m = nullptr;
    CHECK_OK(load(threads, &m));
    if (!m) return;
    CHECK(m->threads() == threads);
    float y[kCount];
    for (int i = 0; i < 200; i++) {
      CHECK_OK(call(m, y));
      CHECK(right(y));
    }
    CHECK_OK(m->set_threads(threads + 1));  // a context made for fewer threads grows
    CHECK_OK(call(m, y));
    CHECK(right(y));
    delete m;
  }
}

struct Caller {
  Model* model;
  int wrong;
};

void* calls(void* arg) {
  Caller* c = static_cast<Caller*>(arg);
  static thread_local float y[kCount];
  for (int i = 0; i < 300; i++)
    if (!call(c->model, y).ok() || !right(y)) c->wrong++;
  return nullptr;
}

void concurrent_calls() {
  Model* m = nullptr;
  CHECK_OK(load(2, &m));
  if (!m) return;
  Caller callers[16];
  pthread_t ids[16];
  for (int t = 0; t < 16; t++) {
    callers[t] = {m, 0};
    CHECK(pthread_create(&ids[t], nullptr, calls, &callers[t]) == 0);
  }
  for (int t = 0; t < 16; t++) {
    pthread_join(ids[t], nullptr);
    CHECK(callers[t].wrong == 0);
  }
  delete m;
}

// Items of every count are each done once, whatever the threads and the grain.
std::atomic<int> g_hits[2000];

constexpr int64_t kWorthWaking = 100000;  // ns that a call saves

void count_kernel(void* const*, const void*, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) g_hits[i].fetch_add(1, std::memory_order_relaxed);
}

// On a loaded machine calls may have to go alone for a while.
void acquire(int threads) {
  while (!irk::pool_acquire(threads, kWorthWaking, 2 * kWorthWaking)) usleep(1000);
}

void every_item_once() {
  static char scratch[8 * 128];
  void* bufs[1] = {scratch};
  irk::pool_reserve(8);
  for (int threads = 2; threads <= 8; threads += 3) {
    for (int64_t items : {0, 1, 2, 3, 7, 64, 100, 1999, 2000}) {
      for (int64_t grain : {1, 2, 5, 64, 3000}) {
        for (auto& h : g_hits) h.store(0, std::memory_order_relaxed);
        acquire(threads);
        const irk::Work work = {count_kernel, nullptr, bufs, 1, threads, 128, items, grain, 1000.0};
        irk::pool_run(&work, 1, threads);
        irk::pool_release();
        int wrong = 0;
        for (int64_t i = 0; i < 2000; i++) wrong += g_hits[i].load() != (i < items);
        CHECK(wrong == 0);
      }
    }
  }
  acquire(2);
  CHECK(!irk::pool_acquire(2, kWorthWaking, 2 * kWorthWaking));  // taken: the second call goes alone
  irk::pool_release();
  CHECK(!irk::pool_acquire(1, kWorthWaking, 2 * kWorthWaking));
}

// Steps of a job: each begins when all of the one before is done, whoever does it; some are not split, some are empty.
struct RowStep {
  int64_t before, items;           // of the step before and of this one
  std::atomic<int64_t>*sum, *bad;  // sum[0]: items done of the step before, sum[1]: of this one
};

void row_kernel(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const RowStep& s = *static_cast<const RowStep*>(params);
  std::atomic<int>* inside = static_cast<std::atomic<int>*>(bufs[0]);  // this thread's own scratch
  if (inside->fetch_add(1) != 0 || s.sum[0].load(std::memory_order_relaxed) != s.before) s.bad->fetch_add(1);
  if ((begin + s.items) % 5 == 0) usleep(1);
  s.sum[1].fetch_add(end - begin, std::memory_order_relaxed);
  inside->fetch_sub(1);
}

void rows_of_steps() {
  constexpr int kSteps = 40;
  alignas(64) static char scratch[8 * 128];
  void* bufs[1] = {scratch};
  std::atomic<int64_t> sum[kSteps + 1], bad{0};
  irk::pool_reserve(8);
  for (int threads = 2; threads <= 8; threads += 3)
    for (int repeat = 0; repeat < (threads == 2 ? 50 : 4); repeat++) {  // with more threads than cores they wait long
      RowStep rows[kSteps];
      irk::Work works[kSteps];
      for (auto& v : sum) v.store(0);
      for (int i = 0; i < kSteps; i++) {
        const int64_t items = (i * 7 + repeat) % 4 == 0 ? (i + repeat) % 3 : 1 + i * 31 % 60;
        rows[i] = {i > 0 ? rows[i - 1].items : 0, items, sum + i, &bad};
        works[i] = {row_kernel, &rows[i], bufs, 1, 1 + (i + repeat) % threads, 128, items, 1 + i % 3, 1000.0};
      }
      acquire(threads);
      irk::pool_run(works, kSteps, threads);
      irk::pool_release();
      for (int i = 0; i < kSteps; i++) CHECK(sum[i + 1].load() == rows[i].items);
    }
  CHECK(bad.load() == 0);
}

// Workers that sleep are not woken for a small call, but for the second of two in a row, and for a large one. On a
// loaded machine something may come between, or workers not get to sleep: then once more.
void wakes() {
  const auto asleep = [] {
    for (int i = 0; i < 1000; i++) {
      usleep(20000);
      if (!irk::pool_acquire(2, 1, 2)) return true;
      irk::pool_release();
    }
    return false;
  };
  bool in_a_row = false, large = false;
  for (int i = 0; i < 1000 && !in_a_row; i++) {
    CHECK(asleep());
    const int64_t before = irk::pool_wakes();
    const bool got = irk::pool_acquire(2, 1, 2);
    if (got) irk::pool_release();
    const int64_t woken = irk::pool_wakes() - before;
    CHECK(woken <= got);
    in_a_row = woken == 1;
  }
  CHECK(in_a_row);
  for (int i = 0; i < 1000 && !large; i++) {
    CHECK(asleep());
    const int64_t before = irk::pool_wakes();
    acquire(2);
    irk::pool_release();
    large = irk::pool_wakes() == before + 1;
  }
  CHECK(large);
}

// A thread can be moved to another core, and keeps the set of cores that it may use.
void leaves_a_core() {
  cpu_set_t all, now, one;
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
  bool left = false;
  for (int i = 0; i < 100 && !left; i++) {  // the system may move it back at once
    const int cpu = sched_getcpu();
    const bool moved = irk::leave_cpu(cpu);
    left = sched_getcpu() != cpu;
    CHECK(moved == (CPU_COUNT(&all) > 1));
    if (!moved) break;
  }
  CHECK(left == (CPU_COUNT(&all) > 1));
  CHECK(sched_getaffinity(0, sizeof now, &now) == 0 && CPU_EQUAL(&now, &all));
  const int cpu = sched_getcpu();
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(!irk::leave_cpu(cpu));  // nowhere to go
  CHECK(sched_getaffinity(0, sizeof now, &now) == 0 && CPU_EQUAL(&now, &one) && sched_getcpu() == cpu);
  CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
  CHECK(!irk::leave_cpu(-1) && !irk::leave_cpu(CPU_SETSIZE));
}

// A worker that loses its core: the calls that follow go alone for a while.
std::atomic<bool> g_entered{false}, g_wait{true};
pthread_t g_caller;

void late_kernel(void* const*, const void*, int64_t begin, int64_t end) {
  g_hits[begin].fetch_add(static_cast<int>(end - begin), std::memory_order_relaxed);
  if (pthread_equal(pthread_self(), g_caller)) {
    while (g_wait.load() && !g_entered.load()) usleep(100);  // so that the worker gets its part
  } else {
    g_entered.store(true);
    usleep(100000);
  }
}

void late_worker() {
  static char scratch[2 * 128];
  void* bufs[1] = {scratch};
  g_caller = pthread_self();
  const irk::Work work = {late_kernel, nullptr, bufs, 1, 2, 128, 2, 1, 1000.0};
  bool alone = false;
  for (int i = 0; i < 100 && !alone; i++) {  // unless this thread, too, loses its core and so notices nothing
    for (auto& h : g_hits) h.store(0, std::memory_order_relaxed);
    g_entered.store(false);
    g_wait.store(true);
    acquire(2);
    irk::pool_run(&work, 1, 2);
    CHECK(g_hits[0].load() + g_hits[1].load() == 2);
    g_entered.store(false);
    g_wait.store(false);
    irk::pool_run(&work, 1, 2);  // the same call: alone, so nobody enters
    CHECK(g_hits[0].load() + g_hits[1].load() == 4);
    alone = !g_entered.load();
    irk::pool_release();
    if (!irk::pool_acquire(2, kWorthWaking, 2 * kWorthWaking)) continue;  // the next one as well
    alone = false;
    irk::pool_release();
  }
  CHECK(alone);
  acquire(2);
  irk::pool_release();
}

// Steps are split when each thread gets a quarter of a grain, and when they, or those around them, are worth handing
// over at all.
void step_threads() {
  Model* m = nullptr;
  CHECK_OK(load(4, &m));
  if (!m) return;
  const irk::PreparedStep base = m->step(0);
  const auto set = [&](int64_t step, int64_t items, int64_t grain) {
    irk::PreparedStep k = base;
    k.items = items;
    k.grain = grain;
    CHECK_OK(m->set_kernel(step, k));
  };
  const auto is = [&](int a, int b) { return m->step_threads(0) == a && m->step_threads(1) == b; };
  set(0, 100, 10), set(1, 4, 10);
  CHECK(is(4, 1));
  set(1, 5, 10);
  CHECK(is(4, 2));
  set(0, 30, 10), set(1, 10, 10);
  CHECK(is(4, 4));  // two small ones in a row
  set(0, 29, 10);
  CHECK(is(1, 1));  // not enough together
  set(0, 4, 10);
  CHECK(is(1, 1));  // one of them
  set(1, 39, 10);
  CHECK(is(1, 1));
  set(1, 40, 10);
  CHECK(is(1, 4));
  CHECK_OK(m->set_threads(3));
  CHECK(is(1, 3));
  CHECK_OK(m->set_threads(2));
  set(0, 20, 10), set(1, 20, 10);
  CHECK(is(1, 1));  // two threads don't save enough
  set(0, 23, 10), set(1, 23, 10);
  CHECK(is(2, 2));
  CHECK_OK(m->set_host(1, [](void*, void* const*) { return 0; }, nullptr));
  CHECK(is(1, 1));
  delete m;
}

// More items than 32 bits hold.
std::atomic<int64_t> g_sum{0};
void sum_kernel(void* const*, const void*, int64_t begin, int64_t end) { g_sum.fetch_add(end - begin); }

void huge_counts() {
  static char scratch[2 * 128];
  void* bufs[1] = {scratch};
  const int64_t items = (INT64_C(1) << 40) + 12345;
  const irk::Work work = {sum_kernel, nullptr, bufs, 1, 2, 128, items, 1, 1000.0};
  acquire(2);
  irk::pool_run(&work, 1, 2);
  irk::pool_release();
  CHECK(g_sum.load() == items);
}

void bad_calls() {
  Model* m = nullptr;
  CHECK_OK(load(1, &m));
  if (!m) return;
  static float y[kCount + 1];
  const void* in[] = {g_x};
  void* out[] = {y};
  const void* none[] = {nullptr};
  void* odd[] = {reinterpret_cast<char*>(y) + 1};
  void* same[] = {g_x + 10};
  CHECK_FAILS(m->run(none, out), Code::bad_input, "input 0 'x': buffer is null");
  CHECK_FAILS(m->run(in, odd), Code::bad_input, "output 0 'y': buffer is null or not aligned");
  CHECK_FAILS(m->run(in, same), Code::bad_input, "output 0 'y' overlaps input 0");
  CHECK_FAILS(m->set_threads(-1), Code::bad_input, "threads must be");
  CHECK_FAILS(m->set_threads(257), Code::bad_input, "threads must be");
  CHECK_FAILS(m->set_host(2, nullptr, nullptr), Code::bad_input, "step 2 of 2");
  CHECK_FAILS(m->set_kernel(0, irk::PreparedStep()), Code::internal, "kernel without function");
  delete m;
  LoadOptions o;
  o.isa = "mmx";
  CHECK_FAILS(Model::load_memory(g_blob.bytes, g_blob.size, o, &m), Code::bad_input, "unknown ISA level 'mmx'");
  CHECK(m == nullptr);
}

int host_add_one(void* user, void* const* bufs) {
  const float* x = static_cast<const float*>(bufs[0]);
  float* y = static_cast<float*>(bufs[1]);
  for (int i = 0; i < kCount; i++) y[i] = x[i] + 1;
  return ++*static_cast<int*>(user) > 1;
}

void c_api() {
  irk_error err;
  irk_model* m = nullptr;
  CHECK(irk_load_memory(g_blob.bytes, 100, nullptr, &m, &err) == IRK_BAD_FILE && !m && strstr(err.message, "cut off"));
  CHECK(irk_load_file("/nonexistent/m.irk", nullptr, &m, nullptr) == IRK_IO && !m);
  const irk_options options = {"scalar", 2};
  CHECK(irk_load_memory(g_blob.bytes, static_cast<size_t>(g_blob.size), &options, &m, &err) == IRK_OK);
  if (!m) return;
  CHECK(strcmp(irk_isa(m), "scalar") == 0 && irk_threads(m) == 2);
  CHECK(irk_input_count(m) == 1 && irk_output_count(m) == 1 && irk_step_count(m) == 2);
  irk_tensor t;
  CHECK(irk_input(m, 0, &t, &err) == IRK_OK && strcmp(t.name, "x") == 0 && t.dtype == IRK_F32 && t.rank == 1 &&
        t.dims[0] == kCount);
  CHECK(irk_output(m, 0, &t, &err) == IRK_OK && t.bytes == kCount * sizeof(float));
  CHECK(irk_output(m, 1, &t, &err) == IRK_BAD_INPUT && strstr(err.message, "output 1 of 1"));
  irk_step s;
  CHECK(irk_step_info(m, 1, &s, nullptr) == IRK_OK && strcmp(s.name, "b") == 0 &&
        strcmp(s.kernel, "testing.f32.scalar") == 0);
  CHECK(irk_step_info(m, 2, &s, nullptr) == IRK_BAD_INPUT);
  float y[kCount];
  const void* in[] = {g_x};
  void* out[] = {y};
  size_t in_bytes[] = {sizeof g_x}, out_bytes[] = {sizeof y};
  CHECK(irk_run(m, in, in_bytes, 1, out, out_bytes, 1, &err) == IRK_OK && right(y));
  int64_t ns[2] = {0, 0};
  CHECK(irk_profile(m, in, in_bytes, 1, out, out_bytes, 1, ns, &err) == IRK_OK && ns[0] > 0 && ns[1] > 0);
  in_bytes[0]--;
  CHECK(irk_run(m, in, in_bytes, 1, out, out_bytes, 1, &err) == IRK_BAD_INPUT &&
        strstr(err.message, "input 0 'x': expected 20000 bytes, got 19999"));
  CHECK(irk_run(m, in, in_bytes, 0, out, out_bytes, 1, &err) == IRK_BAD_INPUT &&
        strstr(err.message, "expected 1 inputs and 1 outputs, got 0 and 1"));
  in_bytes[0]++;
  CHECK(irk_set_threads(m, 0, &err) == IRK_BAD_INPUT && irk_set_threads(m, 1, &err) == IRK_OK && irk_threads(m) == 1);
  int called = 0;
  CHECK(irk_set_host_step(m, 1, host_add_one, &called, &err) == IRK_OK);
  CHECK(irk_run(m, in, in_bytes, 1, out, out_bytes, 1, &err) == IRK_OK && called == 1 && y[3] == 2 * g_x[3] + 3 + 1);
  CHECK(irk_run(m, in, in_bytes, 1, out, out_bytes, 1, &err) == IRK_INTERNAL &&
        strstr(err.message, "step 1 (testing, 'b'): the host's function failed"));
  irk_free(m);
  irk_free(nullptr);
}

void survives_fork() {
  Model* m = nullptr;
  CHECK_OK(load(3, &m));
  if (!m) return;
  static float y[kCount];
  CHECK_OK(call(m, y));
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    bool ok = true;
    for (int i = 0; i < 50; i++) ok = ok && call(m, y).ok() && right(y);
    _exit(ok ? 0 : 1);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_OK(call(m, y));
  CHECK(right(y));
  delete m;
}

#if defined(__x86_64__)
void keeps_mxcsr() {
  Model* m = nullptr;
  CHECK_OK(load(2, &m));
  if (!m) return;
  static float y[kCount], z[kCount];
  const float first = g_x[0];
  g_x[0] = 1e-40f;  // a denormal: flushed in the caller's mode, kept in ours
  CHECK_OK(call(m, y));
  const unsigned before = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(0xff80);  // flush to zero, denormals are zero, round toward zero
  CHECK_OK(call(m, z));
  CHECK(__builtin_ia32_stmxcsr() == 0xff80);
  __builtin_ia32_ldmxcsr(before);
  CHECK(memcmp(y, z, sizeof y) == 0);
  CHECK(y[0] != 0);
  g_x[0] = first;
  delete m;
}
#endif

#if defined(IRKIT_WRAP_MALLOC)
void calls_allocate_nothing() {
  Model* m = nullptr;
  CHECK_OK(load(2, &m));
  if (!m) return;
  static float y[kCount];
  const int64_t before = g_allocs.load();
  CHECK(before > 0);
  for (int i = 0; i < 100; i++) CHECK_OK(call(m, y));
  CHECK(g_allocs.load() == before);
  delete m;
}

// The n-th allocation fails, for every n: a clean error, and all is well once memory is back.
void every_failing_allocation() {
  static float y[kCount];
  int64_t n = 0;
  for (bool done = false; !done && n < 1000; n++) {
    g_allocs.store(0);
    g_fail_at.store(n);
    Model* m = nullptr;
    Status s = load(2, &m);
    if (s.ok()) s = call(m, y);
    done = g_allocs.load() <= n;  // nothing was left to fail
    g_fail_at.store(-1);
    CHECK(done ? s.ok() : s.code == Code::out_of_memory);
    delete m;
    m = nullptr;
    CHECK_OK(load(2, &m));
    if (m) CHECK_OK(call(m, y));
    CHECK(right(y));
    delete m;
  }
  CHECK(n > 10 && n < 1000);
  printf("every_failing_allocation: %lld\n", static_cast<long long>(n - 1));
}
#endif

}  // namespace

int main(int argc, char** argv) {
  build(&g_blob);
  for (int i = 0; i < kCount; i++) g_x[i] = static_cast<float>(i % 97) - 48.5f;
  thread_counts();
  concurrent_calls();
  every_item_once();
  rows_of_steps();
  huge_counts();
  wakes();
  leaves_a_core();
  late_worker();
  step_threads();
  bad_calls();
  c_api();
  // "no-fork": ThreadSanitizer and qemu-user give up when a threaded process forks.
  if (argc < 2 || strcmp(argv[1], "no-fork") != 0) survives_fork();
#if defined(__x86_64__)
  keeps_mxcsr();
#endif
#if defined(IRKIT_WRAP_MALLOC)
  calls_allocate_nothing();
  every_failing_allocation();
#endif
  return report("model_test");
}
