// For a static irkit-run with glibc only: definitions that take the place of parts of the C library which every static
// program gets though irkit-run can never reach them: a fifth of its size. The linker takes no member of libc.a for a
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

// Wide characters, and with them locale files and character sets: no stream is ever wide, no format has %ls or %lc.
void __wcsmbs_load_conv(void*) { abort(); }
void __wcsmbs_clone_conv(void*) { abort(); }
int __wcsmbs_named_conv(void*, const char*) { return 1; }  // no such character set
extern const void* const __wcsmbs_gconv_fcts_c[4] = {};

// Whether a format with %n may be trusted: none has it, so that nothing is (this reads /proc/self/maps otherwise).
int __readonly_area(const void*, size_t) { return -1; }

// The C library's own assertions, with the message that it gives, but without its wide and its translated printf.
[[noreturn]] void __assert_fail(const char* what, const char* file, unsigned line, const char* function) {
  char text[400];
  const int n =
      snprintf(text, sizeof text, "irkit-run: %s:%u: %s: Assertion `%s' failed.\n", file, line, function, what);
  if (n > 0) (void)!write(2, text, strnlen(text, sizeof text));
  abort();
}

}  // extern "C"
