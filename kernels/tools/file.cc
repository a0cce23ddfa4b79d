#include "tools/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tool {
namespace {

bool failed(char message[kMessage], const char* path, const char* what, int error) {
  snprintf(message, kMessage, "%.400s %s: %s", path, what, strerror(error));
  return false;
}

bool write_all(int fd, const void* data, size_t n) {
  const char* p = static_cast<const char*>(data);
  while (n > 0) {
    const ssize_t k = write(fd, p, n);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0) return false;
    p += k;
    n -= static_cast<size_t>(k);
  }
  return true;
}

}  // namespace

InputFile::~InputFile() {
  if (fd_ >= 0) close(fd_);
}

bool InputFile::open(const char* path, char message[kMessage]) {
  fd_ = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO must not make us wait; it is refused below
  struct stat st;
  if (fd_ < 0 || fstat(fd_, &st) != 0) return failed(message, path, "can't be opened", errno);
  if (!S_ISREG(st.st_mode)) {
    snprintf(message, kMessage, "%.400s is not a regular file", path);
    return false;
  }
  size_ = st.st_size;
  return true;
}

bool InputFile::read(void* out, size_t n) {
  char* p = static_cast<char*>(out);
  while (n > 0) {
    const ssize_t k = ::read(fd_, p, n);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) return false;
    p += k;
    n -= static_cast<size_t>(k);
  }
  return true;
}

bool replace_file(const char* path, const void* start, size_t n_start, const void* data, size_t n_data,
                  char message[kMessage]) {
  struct stat st;
  if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
    snprintf(message, kMessage, "%.400s is not a regular file", path);
    return false;
  }
  const size_t room = strlen(path) + 32;
  char* temp = static_cast<char*>(malloc(room));
  if (!temp) return failed(message, path, "can't be written", ENOMEM);
  snprintf(temp, room, "%s.%ld.tmp", path, static_cast<long>(getpid()));
  const int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  bool ok = fd >= 0 && write_all(fd, start, n_start) && write_all(fd, data, n_data);
  int error = errno;
  if (fd >= 0 && close(fd) != 0 && ok) ok = false, error = errno;
  if (ok && rename(temp, path) != 0) ok = false, error = errno;
  if (!ok && fd >= 0) unlink(temp);
  free(temp);
  return ok || failed(message, path, "can't be written", error);
}

}  // namespace tool
