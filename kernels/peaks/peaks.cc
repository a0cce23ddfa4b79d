#include "peaks/peaks.h"

#include "base/cpu.h"

#if defined(__x86_64__)
#define IRK_PEAKS(X)               \
  X(fp32, avx2, 12 * 8 * 2)        \
  X(int8, avx2, 12 * 16 * 2)       \
  X(fp32, avx512, 12 * 16 * 2)     \
  X(int8, avx512, 12 * 32 * 2)     \
  X(int8, avx512vnni, 12 * 64 * 2) \
  X(int8, amx, 4 * 16 * 16 * 64 * 2)
#define IRK_READS(X) X(avx2) X(avx512)
#elif defined(__aarch64__)
#define IRK_PEAKS(X)            \
  X(fp32, neon, 16 * 4 * 2)     \
  X(int8, neon, 8 * 16 * 2)     \
  X(int8, neondot, 16 * 16 * 2) \
  X(int8, neoni8mm, 16 * 32 * 2)
#define IRK_READS(X) X(neon)
#else
#define IRK_PEAKS(X)
#define IRK_READS(X)
#endif

extern "C" {
#define IRK_DECLARE(kind, isa, ops) void irk_peak_##kind##_##isa(int64_t);
IRK_PEAKS(IRK_DECLARE)
#define IRK_DECLARE_READ(isa) int64_t irk_peak_read_##isa(const void*, int64_t, int64_t);
IRK_READS(IRK_DECLARE_READ)
}

namespace irk {
namespace {

#define IRK_LOOP(kind, isa, ops) {#kind, Isa::isa, ops, irk_peak_##kind##_##isa},
const PeakLoop kLoops[] = {IRK_PEAKS(IRK_LOOP){nullptr, Isa::scalar, 0, nullptr}};

int64_t read_plain(const void* data, int64_t bytes, int64_t rounds) {
  const int64_t* p = static_cast<const int64_t*>(data);
  int64_t sum = 0;
  for (int64_t r = 0; r < rounds; r++)
    for (int64_t i = 0; i < bytes / 8; i++) sum += p[i] ^ r;
  return sum;
}

volatile int64_t g_sink;  // what is read must be used

}  // namespace

const PeakLoop* peak_loops(int* count) {
  *count = static_cast<int>(sizeof kLoops / sizeof kLoops[0]) - 1;
  return kLoops;
}

void peak_read(const void* data, int64_t bytes, int64_t rounds) {
  int64_t (*read)(const void*, int64_t, int64_t) = read_plain;
#define IRK_BETTER(isa) \
  if (cpu_isa() >= Isa::isa) read = irk_peak_read_##isa;
  IRK_READS(IRK_BETTER)
  g_sink = read(data, bytes, rounds);
}

}  // namespace irk
