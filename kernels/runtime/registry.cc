#include "runtime/registry.h"

#include <string.h>

// A row is kept when its ISA belongs to this architecture: IRK_IF_<isa>(x) is x or nothing.
#define IRK_IF_scalar(...) __VA_ARGS__
#if defined(__x86_64__)
#define IRK_IF_avx2(...) __VA_ARGS__
#define IRK_IF_avx512(...) __VA_ARGS__
#define IRK_IF_avx512vnni(...) __VA_ARGS__
#define IRK_IF_amx(...) __VA_ARGS__
#else
#define IRK_IF_avx2(...)
#define IRK_IF_avx512(...)
#define IRK_IF_avx512vnni(...)
#define IRK_IF_amx(...)
#endif
#if defined(__aarch64__)
#define IRK_IF_neon(...) __VA_ARGS__
#define IRK_IF_neondot(...) __VA_ARGS__
#define IRK_IF_neoni8mm(...) __VA_ARGS__
#else
#define IRK_IF_neon(...)
#define IRK_IF_neondot(...)
#define IRK_IF_neoni8mm(...)
#endif

#define IRK_KERNEL(family, types, isa, mr, nr, kr) \
  IRK_IF_##isa(void irk_##family##_##types##_##isa(void* const*, const void*, int64_t, int64_t);)
extern "C" {
#include "irk_kernels.inc"
}
#undef IRK_KERNEL

namespace irk {

#define IRK_FAMILY(family) Status irk_prepare_##family(StepContext&, PreparedStep*);
#include "irk_families.inc"
#undef IRK_FAMILY

namespace {

// The terminators keep both arrays legal in a build without any family.
#define IRK_KERNEL(family, types, isa, mr, nr, kr) \
  IRK_IF_##isa({#family, #types, Isa::isa, mr, nr, kr, irk_##family##_##types##_##isa}, )
const KernelRow kRows[] = {
#include "irk_kernels.inc"
    {nullptr, nullptr, Isa::scalar, 0, 0, 0, nullptr}};
#undef IRK_KERNEL

struct Family {
  const char* name;
  PrepareFn prepare;
};

#define IRK_FAMILY(family) {#family, irk_prepare_##family},
const Family kFamilies[] = {
#include "irk_families.inc"
    {nullptr, nullptr}};
#undef IRK_FAMILY

// strcmp, for texts most of which differ at once.
bool same(const char* a, const char* b) { return *a == *b && strcmp(a, b) == 0; }

}  // namespace

PrepareFn find_family(const char* name) {
  for (const Family* f = kFamilies; f->name; f++)
    if (same(f->name, name)) return f->prepare;
  return nullptr;
}

const KernelRow* pick_kernel(const char* family, const char* types, Isa isa) {
  for (const KernelRow* r = kRows; r->family; r++)
    if (r->isa <= isa && same(r->family, family) && same(r->types, types)) return r;
  return nullptr;
}

const KernelRow* all_kernels(int* count) {
  *count = static_cast<int>(sizeof kRows / sizeof kRows[0]) - 1;
  return kRows;
}

}  // namespace irk
