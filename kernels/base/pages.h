// Pages of mapped files.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

namespace irk {

// Bounds what one page fault brings in: the system maps what it has of the file around the page, often far more (all of
// a large folio, or 2 MiB), but never beyond a mapping. So every other piece of [begin, begin + size) gets a flag that
// means nothing for it (to be left out of core dumps) and thereby becomes a mapping of its own. `begin` and `piece` are
// multiples of the page size.
inline void map_in_pieces(void* begin, size_t size, size_t piece) {
#if defined(MADV_DONTDUMP)
  char* const at = static_cast<char*>(begin);
  for (size_t i = piece; i < size; i += 2 * piece) madvise(at + i, size - i < piece ? size - i : piece, MADV_DONTDUMP);
#else
  (void)begin, (void)size, (void)piece;
#endif
}

}  // namespace irk
