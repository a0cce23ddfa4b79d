// The system gives fewer threads than were asked for, or none: a model tells how many it has, and computes the same.
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "artifact.h"
#include "check.h"
#include "irkit.h"

// The linker sends the pool's thread creation here (-Wl,--wrap), which fails when no thread is left to give.
namespace {
std::atomic<int> g_left{0}, g_refused{0};
}
extern "C" {
int __real_pthread_create(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
int __wrap_pthread_create(pthread_t* id, const pthread_attr_t* attr, void* (*start)(void*), void* arg) {
  if (g_left.fetch_sub(1) > 0) return __real_pthread_create(id, attr, start, arg);
  g_refused.fetch_add(1);
  return EAGAIN;
}
}

namespace {

Blob g_blob;
float g_x[kCount], g_y[kCount];

bool right_calls(irk_model* m, int n) {
  const void* in[] = {g_x};
  void* out[] = {g_y};
  const size_t bytes[] = {sizeof g_x};
  for (int k = 0; k < n; k++) {
    memset(g_y, 0x5a, sizeof g_y);
    if (irk_run(m, in, bytes, 1, out, bytes, 1, nullptr) != IRK_OK) return false;
    for (int i = 0; i < kCount; i++)
      if (g_y[i] != expected(g_x[i], i)) return false;
  }
  return true;
}

// Asks for threads while so many more are to be had.
bool has(irk_model* m, int left, int asked, int got) {
  irk_error err;
  g_left.store(left);
  g_refused.store(0);
  const bool ok = irk_set_threads(m, asked, &err) == IRK_OK;
  return ok && g_refused.load() == (got < asked) && irk_threads(m) == got && right_calls(m, 100);
}

void fewer_threads() {
  irk_model* m = nullptr;
  irk_error err;
  const irk_options options = {nullptr, 4};
  CHECK(irk_load_memory(g_blob.bytes, static_cast<size_t>(g_blob.size), &options, &m, &err) == IRK_OK);
  if (!m) return;
  CHECK(g_refused.load() == 1 && irk_threads(m) == 1 && right_calls(m, 100));
  CHECK(g_refused.load() == 1);  // a call does not ask again
  CHECK(has(m, 0, 4, 1));
  CHECK(has(m, 2, 4, 3));
  CHECK(has(m, 0, 3, 3));  // all there already
  CHECK(has(m, 0, 16, 3));
  CHECK(has(m, 100, 16, 16));
  irk_free(m);
}

// The child of a fork has no workers: its first call asks for them, once.
void in_a_child(int left, int asks) {
  irk_model* m = nullptr;
  const irk_options options = {nullptr, 4};
  g_left.store(100);
  CHECK(irk_load_memory(g_blob.bytes, static_cast<size_t>(g_blob.size), &options, &m, nullptr) == IRK_OK);
  if (!m) return;
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    g_left.store(left);
    g_refused.store(0);
    _exit(right_calls(m, 50) && g_refused.load() == asks ? 0 : 1);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(right_calls(m, 50));
  irk_free(m);
}

}  // namespace

int main(int argc, char** argv) {
  build(&g_blob);
  for (int i = 0; i < kCount; i++) g_x[i] = static_cast<float>(i % 97) - 48.5f;
  fewer_threads();
  // "no-fork": ThreadSanitizer and qemu-user give up when a threaded process forks.
  if (argc < 2 || strcmp(argv[1], "no-fork") != 0) {
    in_a_child(0, 1);
    in_a_child(1, 1);
    in_a_child(100, 0);
  }
  return report("threads_test");
}
