// Errors as values: a code and a message. Nothing in the runtime throws or aborts.
#pragma once

namespace irk {

enum class Code : int { ok = 0, bad_file, bad_version, bad_input, out_of_memory, unsupported, io, internal };

// Copies are made by functions, not inline: there is one at every place that can fail, and success needs none.
struct Status {
  Code code = Code::ok;
  char msg[256];  // a C string

  Status() { msg[0] = '\0'; }
  Status(const Status& other);
  Status& operator=(const Status& other);
  bool ok() const { return code == Code::ok; }
};

__attribute__((format(printf, 2, 3), cold)) Status fail(Code code, const char* fmt, ...);

#define IRK_TRY(expr)                \
  do {                               \
    ::irk::Status irk_s_ = (expr);   \
    if (!irk_s_.ok()) return irk_s_; \
  } while (0)

}  // namespace irk
