// Runs the cases that tests/kernels/recording.py wrote, and compares every output byte with the recorded one.
//
//   replay bundle LEVEL [own]     own: only cases whose kernel is of that very level
//   replay rows                   the rows of the kernel table
//
// Each case runs with one thread and with two, on constants, inputs and outputs that end at an unreadable page, then on
// such that begin right after one; under the CPU's default floating-point modes, then under other ones; onto outputs
// full of one byte, then of another. Prints a line for each failure, each kernel that ran ("ran KERNEL CASES") and a
// summary.
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cpu.h"
#include "runtime/model.h"

namespace {

using irk::DType;

constexpr int kMaxArrays = 64;
constexpr int64_t kPage = 4096;
char g_now[512] = "nothing";  // for the signal handler

[[noreturn]] void die(const char* what) {
  fprintf(stderr, "replay: %s\n", what);
  exit(2);
}

void on_signal(int number, siginfo_t* info, void*) {
  char text[700];
  const int n = snprintf(text, sizeof text, "FAIL %s: signal %d at %p\n", g_now, number, info->si_addr);
  if (write(STDOUT_FILENO, text, static_cast<size_t>(n))) _exit(3);
  _exit(3);
}

// ---- floating-point modes ----------------------------------------------------------------------------------------
#if defined(__aarch64__)
constexpr uint64_t kOtherModes = (1u << 24) | (1u << 22);  // flush to zero, round up
uint64_t modes() {
  uint64_t v;
  __asm__ volatile("mrs %0, fpcr" : "=r"(v));
  return v;
}
void set_modes(uint64_t v) { __asm__ volatile("msr fpcr, %0" : : "r"(v)); }
#elif defined(__x86_64__)
constexpr uint64_t kOtherModes = 0x1f80 | 0x8040 | 0x4000;
uint64_t modes() { return __builtin_ia32_stmxcsr() & ~0x3full; }  // without the sticky flags
void set_modes(uint64_t v) { __builtin_ia32_ldmxcsr(static_cast<unsigned>(v)); }
#endif

// ---- memory between unreadable pages -----------------------------------------------------------------------------
class Slots {
 public:
  void reserve(int64_t largest) { body_ = (largest + kPage - 1) / kPage * kPage + kPage; }

  // n bytes, the first free slot of a case; touching what is next to them is a SIGSEGV on one side.
  uint8_t* take(int64_t n, bool at_end) {
    if (used_ == kMaxArrays) die("too many arrays in a case");
    uint8_t*& slot = base_[used_++];
    if (!slot) {
      void* p = mmap(nullptr, static_cast<size_t>(body_ + 2 * kPage), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p == MAP_FAILED) die("out of memory");
      slot = static_cast<uint8_t*>(p) + kPage;
      if (mprotect(slot, static_cast<size_t>(body_), PROT_READ | PROT_WRITE)) die("mprotect");
    }
    return at_end ? slot + body_ - n : slot;
  }
  void clear() { used_ = 0; }

 private:
  uint8_t* base_[kMaxArrays] = {};
  int64_t body_ = 0;
  int used_ = 0;
};

// ---- the bundle --------------------------------------------------------------------------------------------------
struct Stored {
  irk::Tensor t;  // its data in the bundle
  const char* name;
};

class Reader {
 public:
  Reader(const uint8_t* data, int64_t size) : data_(data), size_(size) {}

  int64_t number() {
    int64_t v;
    memcpy(&v, bytes(8), 8);
    return v;
  }
  const uint8_t* block(int64_t* size) {
    *size = number();
    at_ = (at_ + 63) / 64 * 64;
    const uint8_t* p = bytes(*size);
    at_ = (at_ + 7) / 8 * 8;
    return p;
  }
  const char* text() {
    int64_t n;
    return reinterpret_cast<const char*>(block(&n));
  }
  void array(Stored* out, bool named) {
    out->name = named ? text() : nullptr;
    out->t = irk::Tensor();
    out->t.dtype = static_cast<DType>(number());
    out->t.rank = static_cast<int>(number());
    for (int i = 0; i < out->t.rank; i++) out->t.dims[i] = number();
    out->t.data = block(&out->t.bytes);
    out->t.count = out->t.bytes / irk::dtype_size(out->t.dtype);
  }

 private:
  const uint8_t* bytes(int64_t n) {
    if (n < 0 || n > size_ - at_) die("the bundle is cut short");
    at_ += n;
    return data_ + at_ - n;
  }
  const uint8_t* data_;
  int64_t size_, at_ = 0;
};

struct Case {
  const char *name, *plan, *refusal;
  int n_consts, n_in, n_out;
  Stored consts[kMaxArrays], in[kMaxArrays], out[kMaxArrays];

  void read(Reader* r) {
    name = r->text();
    plan = r->text();
    refusal = r->text();
    n_consts = static_cast<int>(r->number());
    n_in = static_cast<int>(r->number());
    n_out = static_cast<int>(r->number());
    if (n_consts + n_in + n_out > kMaxArrays) die("too many arrays in a case");
    for (int i = 0; i < n_consts; i++) r->array(consts + i, true);
    for (int i = 0; i < n_in; i++) r->array(in + i, false);
    for (int i = 0; i < n_out; i++) r->array(out + i, false);
  }
};

// ---- comparing ---------------------------------------------------------------------------------------------------
double value(const Stored& s, const void* data, int64_t i) {
  switch (s.t.dtype) {
    case DType::f32:
      return static_cast<double>(static_cast<const float*>(data)[i]);
    case DType::f64:
      return static_cast<const double*>(data)[i];
    case DType::i16:
      return static_cast<const int16_t*>(data)[i];
    case DType::i32:
      return static_cast<const int32_t*>(data)[i];
    case DType::i64:
      return static_cast<double>(static_cast<const int64_t*>(data)[i]);
    case DType::i8:
      return static_cast<const int8_t*>(data)[i];
    default:
      return static_cast<const uint8_t*>(data)[i];
  }
}

// Equal bits; any NaN equals any other.
bool same(const Stored& want, const uint8_t* got, int64_t i) {
  const int64_t size = irk::dtype_size(want.t.dtype);
  if (memcmp(static_cast<const uint8_t*>(want.t.data) + i * size, got + i * size, static_cast<size_t>(size)) == 0)
    return true;
  const bool real = want.t.dtype == DType::f32 || want.t.dtype == DType::f64;
  return real && isnan(value(want, want.t.data, i)) && isnan(value(want, got, i));
}

int g_failed = 0;

bool right(const Stored& want, const uint8_t* got, int output) {
  if (memcmp(want.t.data, got, static_cast<size_t>(want.t.bytes)) == 0) return true;
  int64_t wrong = 0, first = 0;
  for (int64_t i = want.t.count - 1; i >= 0; i--)
    if (!same(want, got, i)) {
      wrong++;
      first = i;
    }
  if (!wrong) return true;
  printf("FAIL %s: output %d [", g_now, output);
  for (int i = 0; i < want.t.rank; i++) printf("%s%lld", i ? "," : "", static_cast<long long>(want.t.dims[i]));
  printf("]: %lld of %lld differ, the first is element %lld: %.9g, expected %.9g\n", static_cast<long long>(wrong),
         static_cast<long long>(want.t.count), static_cast<long long>(first), value(want, got, first),
         value(want, want.t.data, first));
  return false;
}

// ---- running -----------------------------------------------------------------------------------------------------
struct Ran {
  char kernel[96];
  int cases;
};
Ran g_ran[256];
int g_kernels = 0;

void count(const char* kernel) {
  int i = 0;
  while (i < g_kernels && strcmp(g_ran[i].kernel, kernel) != 0) i++;
  if (i == 256) die("too many kernels");
  if (i == g_kernels) snprintf(g_ran[g_kernels++].kernel, sizeof g_ran[0].kernel, "%s", kernel);
  g_ran[i].cases++;
}

// "family.types.level" of a kernel row; a step that calls several rows goes by its own name.
void name_of(const irk::PreparedStep& step, char* out, size_t size) {
  int n;
  const irk::KernelRow* rows = irk::all_kernels(&n);
  snprintf(out, size, "%s", step.kernel);
  for (int i = 0; i < n; i++)
    if (rows[i].fn == step.fn)
      snprintf(out, size, "%s.%s.%s", rows[i].family, rows[i].types, irk::isa_name(rows[i].isa));
}

const uint8_t* put(Slots* slots, const Stored& s, bool at_end) {
  uint8_t* p = slots->take(s.t.bytes, at_end);
  memcpy(p, s.t.data, static_cast<size_t>(s.t.bytes));
  return p;
}

// False when the case does not count because of `own`.
bool run(const Case& c, const char* level, bool own, int threads, Slots* slots) {
  slots->clear();
  const bool at_end = threads == 1;
  irk::ConstTable table;
  if (!table.alloc(c.n_consts)) die("out of memory");
  for (int i = 0; i < c.n_consts; i++) {
    irk::Tensor t = c.consts[i].t;
    t.data = put(slots, c.consts[i], at_end);
    table.entries()[i] = {c.consts[i].name, t};
  }
  irk::LoadOptions options;
  options.isa = level;
  options.threads = threads;
  irk::Model* m = nullptr;
  irk::Status s = table.seal();
  if (s.ok()) s = irk::Model::load_plan(c.plan, static_cast<int64_t>(strlen(c.plan)), table, options, &m);
  if (c.refusal[0] || !s.ok()) {
    if (strcmp(s.msg, c.refusal) != 0 || s.ok()) {
      printf("FAIL %s: '%s', expected '%s'\n", c.name, s.ok() ? "loads" : s.msg, c.refusal[0] ? c.refusal : "loads");
      g_failed++;
    }
    delete m;
    return true;
  }
  char kernel[96];
  name_of(m->step(m->plan().steps.size() - 1), kernel, sizeof kernel);  // what is before it only moves an operand
  const char* dot = strrchr(kernel, '.');
  if (own && !(dot && strcmp(dot + 1, level) == 0)) {
    delete m;
    return false;
  }
  snprintf(g_now, sizeof g_now, "%s (%s, %d threads)", c.name, kernel, threads);
  if (threads == 1) count(kernel);
  const void* in[kMaxArrays];
  void* out[kMaxArrays];
  for (int i = 0; i < c.n_in; i++) in[i] = put(slots, c.in[i], at_end);
  for (int i = 0; i < c.n_out; i++) {
    out[i] = slots->take(c.out[i].t.bytes, at_end);
    memset(out[i], at_end ? 0x5A : 0xA5, static_cast<size_t>(c.out[i].t.bytes));
  }
  const uint64_t before = modes(), during = at_end ? before : kOtherModes;
  set_modes(during);
  s = m->run(in, out);
  const uint64_t after = modes();
  set_modes(before);
  bool good = true;
  if (!s.ok()) {
    printf("FAIL %s: %s\n", g_now, s.msg);
    good = false;
  }
  if (after != during) {
    printf("FAIL %s: left the floating-point modes at %llx instead of %llx\n", g_now,
           static_cast<unsigned long long>(after), static_cast<unsigned long long>(during));
    good = false;
  }
  for (int i = 0; good && i < c.n_out; i++) good = right(c.out[i], static_cast<uint8_t*>(out[i]), i);
  for (int i = 0; i < c.n_in; i++)
    if (memcmp(in[i], c.in[i].t.data, static_cast<size_t>(c.in[i].t.bytes)) != 0) {
      printf("FAIL %s: wrote to input %d\n", g_now, i);
      good = false;
    }
  g_failed += !good;
  delete m;
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "rows") == 0) {
    int n;
    const irk::KernelRow* rows = irk::all_kernels(&n);
    for (int i = 0; i < n; i++) printf("%s.%s.%s\n", rows[i].family, rows[i].types, irk::isa_name(rows[i].isa));
    return 0;
  }
  if (argc < 3) die("usage: replay bundle LEVEL [own]");
  const char* level = argv[2];
  const bool own = argc > 3 && strcmp(argv[3], "own") == 0;
  irk::Isa isa;
  const irk::Status known = irk::effective_isa(level, &isa);
  if (!known.ok()) die(known.msg);
  if (strcmp(irk::isa_name(isa), level) != 0) die("this CPU has no such level");
  const int fd = open(argv[1], O_RDONLY);
  struct stat info;
  if (fd < 0 || fstat(fd, &info)) die("the bundle can't be opened");
  const void* data = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED) die("the bundle can't be mapped");
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO;
  constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGABRT, SIGFPE};
  for (int number : kSignals) sigaction(number, &action, nullptr);

  setvbuf(stdout, nullptr, _IOLBF, 0);
  Reader reader(static_cast<const uint8_t*>(data), info.st_size);
  const int64_t n = reader.number();
  static Slots slots;
  static Case c;
  slots.reserve(reader.number());
  int64_t ran = 0;
  for (int64_t i = 0; i < n; i++) {
    c.read(&reader);
    snprintf(g_now, sizeof g_now, "%s (loading)", c.name);
    if (!run(c, level, own, 1, &slots)) continue;
    run(c, level, own, 2, &slots);
    ran++;
  }
  for (int i = 0; i < g_kernels; i++) printf("ran %s %d\n", g_ran[i].kernel, g_ran[i].cases);
  printf("%lld of %lld cases, %d failed\n", static_cast<long long>(ran), static_cast<long long>(n), g_failed);
  return g_failed ? 1 : 0;
}
