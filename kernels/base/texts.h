// Copies of texts, in one block.
#pragma once
#include <string.h>

#include "base/array.h"

namespace irk {

class Texts {
 public:
  static int64_t bytes(const char* text) { return static_cast<int64_t>(strlen(text)) + 1; }
  // Room for texts of so many bytes in all; false when memory is out.
  bool alloc(int64_t bytes) {
    used_ = 0;
    return chars_.alloc(bytes);
  }
  const char* add(const char* text) {
    const int64_t n = bytes(text);
    if (n > chars_.size() - used_) __builtin_trap();
    char* const copy = chars_.data() + used_;
    memcpy(copy, text, static_cast<size_t>(n));
    used_ += n;
    return copy;
  }

 private:
  Array<char> chars_;
  int64_t used_ = 0;
};

}  // namespace irk
