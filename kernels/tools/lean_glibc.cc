// For a static irkit-run with glibc only: definitions that take the place of parts of the C library which every static
// program gets though irkit-run can never reach them, a third of its size. The linker takes no member of libc.a for a
// symbol that it has already; with a C library that has no such symbol these functions are left out as unused.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern "C" {

// Unwinding: nothing throws, no thread is cancelled or ends by pthread_exit, and no_unwind.ld drops the tables anyway.
[[noreturn]] void _Unwind_Resume(void*) { abort(); }
int _Unwind_ForcedUnwind(void*, void*, void*) { abort(); }
unsigned long _Unwind_GetCFA(void*) { abort(); }
int __gcc_personality_v0(int, int, unsigned long, void*, void*) { abort(); }

// Resolving of host names: a thread that starts only stores where its state would be.
__thread void* __libc_resp;

// Translated messages: no locale but C's is ever set.
char* __dcgettext(const char*, const char* message, int) { return const_cast<char*>(message); }

// The C library's own assertions, with the message that it gives, but without its wide and its translated printf.
[[noreturn]] void __assert_fail(const char* what, const char* file, unsigned line, const char* function) {
  char text[400];
  const int n = snprintf(text, sizeof text, "irkit-run: %s:%u: %s: Assertion `%s' failed.\n", file, line, function, what);
  if (n > 0) (void)!write(2, text, strnlen(text, sizeof text));
  abort();
}

}  // extern "C"
