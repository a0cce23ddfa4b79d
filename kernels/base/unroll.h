// Loops unrolled by the front end, so that arrays of vectors indexed by the counter become registers.
#pragma once

#define IRK_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define IRK_NOINLINE __attribute__((noinline))
#else
#define IRK_NOINLINE __attribute__((noinline, noclone))  // a clone is as good as inlined
#endif

namespace irk {
namespace {

template <int I>
struct Int {
  static constexpr int value = I;
  constexpr operator int() const { return I; }
};

template <int I, int N, int Step, class F>
struct Unroller {
  static IRK_INLINE void run(F& f) {
    f(Int<I>());
    Unroller<I + Step, N, Step, F>::next(f);
  }
  static IRK_INLINE void next(F& f) {
    if constexpr (I < N) run(f);
  }
};

// f(Int<0>()), f(Int<Step>()), ... below N. Write f as [&](auto i) IRK_LAMBDA {...}.
#define IRK_LAMBDA __attribute__((always_inline))
template <int N, int Step = 1, class F>
IRK_INLINE void unroll(F&& f) {
  Unroller<0, N, Step, F>::next(f);
}

}  // namespace
}  // namespace irk
