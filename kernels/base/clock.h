// The clock of waits and profiles.
#pragma once
#include <stdint.h>
#include <time.h>

namespace irk {

// Nanoseconds since some moment; never goes back.
inline int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}

}  // namespace irk
