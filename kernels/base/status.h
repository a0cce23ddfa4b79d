// Errors as values: a code and a message. Nothing in the runtime throws or aborts.
#pragma once
#include <stdarg.h>
#include <stdio.h>

namespace irk {

enum class Code : int { ok = 0, bad_file, bad_version, bad_input, out_of_memory, unsupported, io, internal };

struct Status {
  Code code = Code::ok;
  char msg[256] = {0};
  bool ok() const { return code == Code::ok; }
};

__attribute__((format(printf, 2, 3))) inline Status fail(Code code, const char* fmt, ...) {
  Status s;
  s.code = code;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(s.msg, sizeof s.msg, fmt, ap);
  va_end(ap);
  return s;
}

#define IRK_TRY(expr)                \
  do {                               \
    ::irk::Status irk_s_ = (expr);   \
    if (!irk_s_.ok()) return irk_s_; \
  } while (0)

}  // namespace irk
