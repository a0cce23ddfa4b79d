// Results must not depend on the caller's rounding and flush-to-zero modes, nor change them.
#pragma once
#include <stdint.h>

namespace irk {

// While it lives, this thread rounds to nearest even and keeps denormals; then the former modes return.
class FpEnv {
 public:
  FpEnv() : saved_(read()) {
    if (saved_ != kDefault) write(kDefault);
  }
  ~FpEnv() {
    // Sticky exception flags belong to the computation; the caller gets its own back as well.
    if (read() != saved_) write(saved_);
  }
  FpEnv(const FpEnv&) = delete;
  FpEnv& operator=(const FpEnv&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr uint64_t kDefault = 0x1f80;  // MXCSR after reset: all exceptions masked
  static uint64_t read() { return __builtin_ia32_stmxcsr(); }
  static void write(uint64_t v) { __builtin_ia32_ldmxcsr(static_cast<unsigned>(v)); }
#elif defined(__aarch64__)
  static constexpr uint64_t kDefault = 0;
  static uint64_t read() {
    uint64_t v;
    __asm__ volatile("mrs %0, fpcr" : "=r"(v));
    return v;
  }
  static void write(uint64_t v) { __asm__ volatile("msr fpcr, %0" : : "r"(v)); }
#else
  static constexpr uint64_t kDefault = 0;
  static uint64_t read() { return 0; }
  static void write(uint64_t) {}
#endif
  const uint64_t saved_;
};

}  // namespace irk
