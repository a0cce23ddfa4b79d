// Objects from malloc, without the C++ library: new (OrNull{}) T is null when memory is out.
#pragma once
#include <stdlib.h>

namespace irk {

struct OrNull {};

struct OnHeap {
  static void* operator new(size_t n, OrNull) noexcept { return malloc(n); }
  static void operator delete(void* p) noexcept { free(p); }
  static void operator delete(void* p, OrNull) noexcept { free(p); }
};

}  // namespace irk
