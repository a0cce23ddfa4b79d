// Twelve accumulators (sixteen, eight), each the input of its own next operation.
#pragma once
#define IRK_8(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define IRK_12(X) IRK_8(X) X(8) X(9) X(10) X(11)
#define IRK_16(X) IRK_12(X) X(12) X(13) X(14) X(15)
// The compiler must neither drop, join nor compute ahead what goes through a register here.
#if defined(__x86_64__)
#define IRK_OPAQUE(x) __asm__ volatile("" : "+v"(x))
#else
#define IRK_OPAQUE(x) __asm__ volatile("" : "+w"(x))
#endif
