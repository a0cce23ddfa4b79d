// Files of irkit-run: regular ones only, so that nothing waits for a pipe and no device is replaced.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "tools/npy.h"

namespace tool {

class InputFile {
 public:
  InputFile() = default;
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile();
  bool open(const char* path, char message[kMessage]);
  int64_t size() const { return size_; }
  // The next n bytes, all of them or false.
  bool read(void* out, size_t n);

 private:
  int fd_ = -1;
  int64_t size_ = 0;
};

// Writes start[n_start], then data[n_data] to a new file in the same folder, and renames it to `path`.
bool replace_file(const char* path, const void* start, size_t n_start, const void* data, size_t n_data,
                  char message[kMessage]);

}  // namespace tool
