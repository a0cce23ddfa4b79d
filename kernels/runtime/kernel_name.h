// Names of kernel rows for profiles and plans, without allocating: "<family>.<types>" must be a literal.
#pragma once
#include "base/types.h"

#if defined(__x86_64__)
#define IRK_KERNEL_NAME(family_types, row)                             \
  ((row)->isa == ::irk::Isa::scalar       ? family_types ".scalar"     \
   : (row)->isa == ::irk::Isa::avx2       ? family_types ".avx2"       \
   : (row)->isa == ::irk::Isa::avx512     ? family_types ".avx512"     \
   : (row)->isa == ::irk::Isa::avx512vnni ? family_types ".avx512vnni" \
                                          : family_types ".amx")
#else
#define IRK_KERNEL_NAME(family_types, row)                       \
  ((row)->isa == ::irk::Isa::scalar    ? family_types ".scalar"  \
   : (row)->isa == ::irk::Isa::neon    ? family_types ".neon"    \
   : (row)->isa == ::irk::Isa::neondot ? family_types ".neondot" \
                                       : family_types ".neoni8mm")
#endif
