// Runs an artifact to be counted: driver MODEL.irk [steps]
//
// One call warms up (it takes the memory that later calls use); marks 1 and 2 (count.cc) enclose a second, by irk_run.
// With "steps" a third, by irk_profile, puts marks 3 and 4 around each step: the runtime reads the clock there, and
// this program links it with --wrap=clock_gettime, so that the runtime itself holds no hook for counting. One thread.
// Prints the ISA level and then one line per step: family, kernel and name, separated by tabs.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "irkit.h"

namespace {

constexpr int kMark = 0x69726B00, kBegin = 1, kEnd = 2, kStepBegin = 3, kStepEnd = 4;
constexpr int kPorts = 64;

bool stepping = false;
int next_mark = kStepBegin;

inline void mark(int id) { syscall(SYS_getpriority, PRIO_PROCESS, kMark + id); }

// The same values on every machine: counts of sparse or data-dependent kernels must not change from run to run.
void fill(void* data, const irk_tensor& t) {
  uint32_t state = 1;
  for (size_t i = 0; i < t.bytes; i++) {
    state = state * 1664525u + 1013904223u;
    static_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(t.dtype == IRK_I8 || t.dtype == IRK_U8 ? state >> 24 : 0);
  }
  if (t.dtype != IRK_F32) return;
  for (size_t i = 0; i < t.bytes / 4; i++) {
    state = state * 1664525u + 1013904223u;
    static_cast<float*>(data)[i] = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
}

int fail(const irk_error& e) {
  fprintf(stderr, "%s\n", e.message);
  return 1;
}

}  // namespace

extern "C" int __real_clock_gettime(clockid_t clock, timespec* t);
extern "C" int __wrap_clock_gettime(clockid_t clock, timespec* t) {
  if (!stepping) return __real_clock_gettime(clock, t);
  t->tv_sec = t->tv_nsec = 0;
  mark(next_mark);
  next_mark = kStepBegin + kStepEnd - next_mark;
  return 0;
}

int main(int argc, char** argv) {
  const bool steps_too = argc == 3 && strcmp(argv[2], "steps") == 0;
  if (argc != 2 && !steps_too) return fputs("usage: driver MODEL.irk [steps]\n", stderr), 2;
  irk_error e;
  irk_model* m;
  const irk_options options = {nullptr, 1};
  if (irk_load_file(argv[1], &options, &m, &e)) return fail(e);

  void *in[kPorts], *out[kPorts];
  size_t in_bytes[kPorts], out_bytes[kPorts];
  const int n_in = irk_input_count(m), n_out = irk_output_count(m), steps = irk_step_count(m);
  if (n_in > kPorts || n_out > kPorts) return fputs("too many inputs or outputs\n", stderr), 1;
  irk_tensor t;
  for (int i = 0; i < n_in; i++) {
    if (irk_input(m, i, &t, &e)) return fail(e);
    in_bytes[i] = t.bytes;
    in[i] = aligned_alloc(64, (t.bytes + 63) / 64 * 64);
    if (!in[i]) return fputs("out of memory\n", stderr), 1;
    fill(in[i], t);
  }
  for (int i = 0; i < n_out; i++) {
    if (irk_output(m, i, &t, &e)) return fail(e);
    out_bytes[i] = t.bytes;
    out[i] = aligned_alloc(64, (t.bytes + 63) / 64 * 64);
    if (!out[i]) return fputs("out of memory\n", stderr), 1;
  }
  int64_t* ns = static_cast<int64_t*>(calloc(static_cast<size_t>(steps) + 1, sizeof *ns));
  if (!ns) return fputs("out of memory\n", stderr), 1;

  for (int i = 0; i < 2; i++) {
    if (i == 1) mark(kBegin);
    if (irk_run(m, in, in_bytes, n_in, out, out_bytes, n_out, &e)) return fail(e);
  }
  mark(kEnd);
  if (steps_too) {
    stepping = true;
    if (irk_profile(m, in, in_bytes, n_in, out, out_bytes, n_out, ns, &e)) return fail(e);
    stepping = false;
  }

  puts(irk_isa(m));
  irk_step s;
  for (int i = 0; steps_too && i < steps; i++) {
    if (irk_step_info(m, i, &s, &e)) return fail(e);
    printf("%s\t%s\t%s\n", s.family, s.kernel, s.name);
  }
  irk_free(m);
  return 0;
}
