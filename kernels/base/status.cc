#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

namespace irk {

Status::Status(const Status& other) { *this = other; }

Status& Status::operator=(const Status& other) {
  if (this == &other) return *this;
  code = other.code;
  memcpy(msg, other.msg, strlen(other.msg) + 1);
  return *this;
}

Status fail(Code code, const char* fmt, ...) {
  Status s;
  s.code = code;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(s.msg, sizeof s.msg, fmt, ap);
  va_end(ap);
  const size_t n = strlen(s.msg);
  if (code == Code::out_of_memory && !strstr(s.msg, "out of memory"))  // the message then says for what
    snprintf(s.msg + n, sizeof s.msg - n, ": out of memory");
  return s;
}

}  // namespace irk
