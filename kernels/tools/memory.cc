#include "tools/memory.h"

#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/pages.h"

namespace tool {

namespace {

constexpr uint64_t kPieceBytes = 4096;

// use(begin, size) for each part of the program that is mapped from the file and never written.
template <class Use>
void each_program_part(Use use) {
  const auto* headers = reinterpret_cast<const ElfW(Phdr)*>(getauxval(AT_PHDR));
  const uint64_t n = headers ? getauxval(AT_PHNUM) : 0, page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  uint64_t base = 0;  // of a program that may lie anywhere
  for (uint64_t i = 0; i < n; i++)
    if (headers[i].p_type == PT_PHDR) base = reinterpret_cast<uint64_t>(headers) - headers[i].p_vaddr;
  for (uint64_t i = 0; i < n; i++) {
    if (headers[i].p_type != PT_LOAD || headers[i].p_flags & PF_W) continue;
    const uint64_t begin = base + headers[i].p_vaddr, first = begin / page * page;
    use(reinterpret_cast<void*>(first), begin + headers[i].p_filesz - first);
  }
}

}  // namespace

void map_program_in_pieces() {
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  each_program_part([&](void* begin, size_t size) {
    irk::map_in_pieces(begin, size, page < kPieceBytes ? kPieceBytes : page);
    madvise(begin, size, MADV_DONTNEED);
  });
}

void drop_program_pages() {
  each_program_part([](void* begin, size_t size) { madvise(begin, size, MADV_DONTNEED); });
}

int64_t peak_memory() {
  char text[8192];
  const int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  text[n > 0 ? n : 0] = '\0';
  const char* line = strstr(text, "VmHWM:");
  return line ? strtoll(line + 6, nullptr, 10) * 1024 : 0;
}

}  // namespace tool
