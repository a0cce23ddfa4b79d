#include "base/cpu.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "base/number.h"

namespace irk {
namespace {

struct IsaName {
  Isa isa;
  const char* name;
};

// Levels of this architecture, lowest first.
constexpr IsaName kIsas[] = {
    {Isa::scalar, "scalar"},
#if defined(__x86_64__)
    {Isa::avx2, "avx2"},     {Isa::avx512, "avx512"}, {Isa::avx512vnni, "avx512vnni"}, {Isa::amx, "amx"},
#elif defined(__aarch64__)
    {Isa::neon, "neon"},
    {Isa::neondot, "neondot"},
    {Isa::neoni8mm, "neoni8mm"},
#endif
};

#if defined(__x86_64__)
uint64_t xgetbv0() {
  uint32_t lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (static_cast<uint64_t>(hi) << 32) | lo;
}

// Linux hands out the 8 KiB of AMX tile state only to processes that ask (arch_prctl(2), since 5.16).
bool request_amx() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kReqXcompPerm = 0x1023, kXtileData = 18;
  return syscall(SYS_arch_prctl, kReqXcompPerm, kXtileData) == 0;
#else
  return false;
#endif
}

Isa detect() {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return Isa::scalar;
  const bool osxsave = c >> 27 & 1, avx = c >> 28 & 1, fma = c >> 12 & 1, f16c = c >> 29 & 1;
  if (!(osxsave && avx && fma && f16c)) return Isa::scalar;
  const uint64_t xcr0 = xgetbv0();
  if ((xcr0 & 0x6) != 0x6) return Isa::scalar;  // the system saves XMM and YMM
  uint32_t b7, c7, d7;
  if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return Isa::scalar;
  if (!(b7 >> 5 & 1)) return Isa::scalar;
  const bool avx512 = (b7 >> 16 & 1) && (b7 >> 17 & 1) && (b7 >> 30 & 1) && (b7 >> 31 & 1);  // f, dq, bw, vl
  if (!avx512 || (xcr0 & 0xe0) != 0xe0) return Isa::avx2;
  if (!(c7 >> 11 & 1)) return Isa::avx512;
  const bool amx = (d7 >> 24 & 1) && (d7 >> 25 & 1) && (c7 >> 1 & 1);  // tile, int8; vbmi
  if (!amx || (xcr0 & 0x60000) != 0x60000 || !request_amx()) return Isa::avx512vnni;
  return Isa::amx;
}
#elif defined(__aarch64__)
Isa detect() {
#if defined(__linux__)
  constexpr unsigned long kAsimdDp = 1ul << 20, kI8mm2 = 1ul << 13;
  if (!(getauxval(AT_HWCAP) & kAsimdDp)) return Isa::neon;
  return getauxval(AT_HWCAP2) & kI8mm2 ? Isa::neoni8mm : Isa::neondot;
#elif defined(__ARM_FEATURE_DOTPROD)
  return Isa::neondot;
#else
  return Isa::neon;
#endif
}
#else
Isa detect() { return Isa::scalar; }
#endif

pthread_once_t g_once = PTHREAD_ONCE_INIT;
Isa g_isa = Isa::scalar;
void detect_once() { g_isa = detect(); }

}  // namespace

const char* isa_name(Isa isa) {
  for (const IsaName& n : kIsas)
    if (n.isa == isa) return n.name;
  return "?";
}

Isa cpu_isa() {
  pthread_once(&g_once, detect_once);
  return g_isa;
}

Status parse_isa(const char* name, Isa* out) {
  char list[128] = "";
  for (const IsaName& n : kIsas) {
    if (strcmp(n.name, name) == 0) {
      *out = n.isa;
      return Status();
    }
    if (list[0]) strncat(list, ", ", sizeof list - strlen(list) - 1);
    strncat(list, n.name, sizeof list - strlen(list) - 1);
  }
  return fail(Code::bad_input, "unknown ISA level '%.32s'; this build has %s", name, list);
}

Status effective_isa(const char* cap, Isa* out) {
  const Isa best = cpu_isa();
  if (!cap || !*cap) cap = getenv("IRKIT_ISA");
  *out = best;
  if (!cap || !*cap) return Status();
  Isa asked;
  IRK_TRY(parse_isa(cap, &asked));
  if (asked < best) *out = asked;
  return Status();
}

int cpu_isas(Isa out[8]) {
  int n = 0;
  for (const IsaName& i : kIsas)
    if (i.isa <= cpu_isa()) out[n++] = i.isa;
  return n;
}

Status default_threads(int* out) {
  *out = 1;
  const char* env = getenv("IRKIT_THREADS");
  if (env && *env) {
    const size_t length = strlen(env);
    int64_t n = 0;
    if (strspn(env, "0123456789") < length || !read_int(env, static_cast<int64_t>(length), &n) || n < 1 ||
        n > kMaxThreads)
      return fail(Code::bad_input, "IRKIT_THREADS: expected an integer from 1 to %d, got '%.32s'", kMaxThreads, env);
    *out = static_cast<int>(n);
    return Status();
  }
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    const int n = CPU_COUNT(&set);
    if (n >= 1) *out = n < kMaxThreads ? n : kMaxThreads;
  }
#endif
  return Status();
}

}  // namespace irk
