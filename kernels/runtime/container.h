// The artifact's container: a safetensors file whose header begins with irkit's version and checksum.
//
//   u64 little-endian      N, length of the header; N % 8 == 0, N <= 16 MiB
//   N bytes of JSON        {"__metadata__":{"irkit.version":"1.0","irkit.checksum":"xxh64:<16 lower-case hex digits>",
//   ...},
//                           "irkit.plan":{"dtype":"U8","shape":[n],"data_offsets":[a,b]}, "<tensor>": {...}, ...}
//   the tensors' bytes     little-endian, no holes, each aligned to its element size
//
// The first two metadata entries stand at the very start, spelled exactly so (no spaces), which is how irkit knows the
// file. The checksum covers the whole file with its own 16 digits read as '0'. Any safetensors reader can read the
// file.
#pragma once
#include "base/array.h"
#include "base/status.h"
#include "base/texts.h"
#include "base/types.h"

namespace irk {

constexpr int kFormatMajor = 1, kFormatMinor = 0;
constexpr char kPlanKey[] = "irkit.plan";

// A named constant: memory order, row-major.
struct ConstTensor {
  const char* name;
  Tensor tensor;
};

// Constants sorted by name; owns nothing but the table and, when it made them, the names.
class ConstTable {
 public:
  const ConstTensor* find(const char* name) const;
  int64_t index(const ConstTensor* c) const { return c - entries_.begin(); }
  int64_t size() const { return entries_.size(); }
  const ConstTensor& operator[](int64_t i) const { return entries_[i]; }
  // Fill through entries(), then seal(): sorts and refuses duplicates.
  bool alloc(int64_t n) { return entries_.alloc(n); }
  Array<ConstTensor>& entries() { return entries_; }
  Status seal();
  // Copies the names, so that they outlive what they were read from.
  Status keep_names();

 private:
  Array<ConstTensor> entries_;
  Texts names_;
};

// The bytes of an artifact: a private read-only mapping of a file, a copy of memory, or memory of the caller's.
class FileBytes {
 public:
  FileBytes() = default;
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;
  ~FileBytes();

  // Maps a regular file; Code::io names the path and the reason.
  Status map(const char* path);
  Status copy(const void* data, int64_t size);
  Status borrow(const void* data, int64_t size);
  const uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }
  // A file that may well be in memory beside copies of all its constants.
  static constexpr int64_t kSmallBytes = 1200 << 10;
  // Bytes that reading one brings into memory, or more in large files.
  static constexpr int64_t kPieceBytes = 64 << 10;
  // Gives the memory of a mapping's pages back, all or those around some bytes: what is read again comes from the file
  // again.
  void drop_pages() const { drop_pages(data_, size_); }
  void drop_pages(const void* begin, int64_t bytes) const;

 private:
  void release();
  enum class Kind { owned, mapped, borrowed };
  static constexpr int64_t kMostPieces = 256;
  const uint8_t* data_ = nullptr;
  int64_t size_ = 0;
  int64_t piece_ = kPieceBytes;  // of the mapping at hand
  Kind kind_ = Kind::owned;
};

// Checks everything named above and lists the tensors; their names and data point into `names` and `bytes`.
// `bytes` must start at an address that is a multiple of 8.
class JsonDoc;
Status read_container(const uint8_t* bytes, int64_t size, JsonDoc* names, ConstTable* out);

// Fills count and bytes from dtype, rank and dims; false when a limit of limits.h is broken.
bool size_tensor(Tensor* t);

// Our dtype of a safetensors name ("F32") or of a plan's name ("f32"); false when unknown.
bool dtype_from_container(const char* name, DType* out);
bool dtype_from_plan(const char* name, DType* out);
const char* dtype_name(DType t);

}  // namespace irk
