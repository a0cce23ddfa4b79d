#include "runtime/container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/pages.h"
#include "base/xxh64.h"
#include "runtime/family.h"
#include "runtime/limits.h"

namespace irk {
namespace {

constexpr char kStart[] = "{\"__metadata__\":{\"irkit.version\":\"";
constexpr char kBeforeSum[] = "\",\"irkit.checksum\":\"xxh64:";
constexpr int kSumDigits = 16;

struct DTypeName {
  DType dtype;
  const char *plan, *container;
};
constexpr DTypeName kDTypes[] = {
    {DType::f32, "f32", "F32"}, {DType::f64, "f64", "F64"},       {DType::i8, "i8", "I8"},
    {DType::u8, "u8", "U8"},    {DType::i16, "i16", "I16"},       {DType::i32, "i32", "I32"},
    {DType::i64, "i64", "I64"}, {DType::boolean, "bool", "BOOL"},
};

#if defined(MAP_POPULATE)
constexpr int kPopulate = MAP_POPULATE;
#else
constexpr int kPopulate = 0;
#endif

long long ll(int64_t v) { return static_cast<long long>(v); }

// Reads bytes of the header front to back.
class Cursor {
 public:
  Cursor(const uint8_t* data, int64_t size) : data_(data), size_(size) {}
  bool literal(const char* text) {
    const int64_t n = static_cast<int64_t>(strlen(text));
    if (size_ - at_ < n || memcmp(data_ + at_, text, static_cast<size_t>(n)) != 0) return false;
    at_ += n;
    return true;
  }
  bool number(int* out) {  // up to 4 digits, no leading zero
    int v = 0, n = 0;
    while (n < 4 && at_ < size_ && data_[at_] >= '0' && data_[at_] <= '9') v = v * 10 + (data_[at_++] - '0'), n++;
    *out = v;
    return n == 1 || (n > 1 && data_[at_ - n] != '0');
  }
  int64_t at() const { return at_; }
  bool skip(int64_t n) {
    if (size_ - at_ < n) return false;
    at_ += n;
    return true;
  }

 private:
  const uint8_t* data_;
  int64_t size_, at_ = 0;
};

Status check_sum(const uint8_t* bytes, int64_t size, int64_t digits_at) {
  static const char zeros[] = "0000000000000000";
  static_assert(sizeof zeros == kSumDigits + 1, "");
  Xxh64 h;
  h.update(bytes, digits_at);
  h.update(zeros, kSumDigits);
  h.update(bytes + digits_at + kSumDigits, size - digits_at - kSumDigits);
  char want[kSumDigits + 1];
  snprintf(want, sizeof want, "%016llx", static_cast<unsigned long long>(h.digest()));
  for (int i = 0; i < kSumDigits; i++)
    if (!strchr("0123456789abcdef", bytes[digits_at + i]) || !bytes[digits_at + i])
      return fail(Code::bad_file, "irkit.checksum is not 16 lower-case hex digits");
  if (memcmp(want, bytes + digits_at, kSumDigits) != 0)
    return fail(Code::bad_file, "checksum mismatch: the file says %.16s, its content gives %s; it is damaged",
                reinterpret_cast<const char*>(bytes) + digits_at, want);
  return Status();
}

// Version and checksum at the start of the header.
Status check_start(const uint8_t* bytes, int64_t size, int64_t header) {
  Cursor c(bytes + 8, header);
  int major = 0, minor = 0;
  if (!c.literal(kStart))
    return fail(Code::bad_file, "not an irkit artifact: the header does not begin with irkit.version");
  if (!c.number(&major) || !c.literal(".") || !c.number(&minor))
    return fail(Code::bad_file, "irkit.version is not of the form <major>.<minor>");
  if (major > kFormatMajor)
    return fail(Code::bad_version, "artifact format version %d.%d is newer than %d.%d, the newest this irkit reads",
                major, minor, kFormatMajor, kFormatMinor);
  if (major < 1)
    return fail(Code::bad_version, "artifact format version %d.%d does not exist; versions begin at 1.0", major, minor);
  if (!c.literal(kBeforeSum))
    return fail(Code::bad_file, "irkit.version is not followed by irkit.checksum of kind xxh64");
  const int64_t digits_at = 8 + c.at();
  if (!c.skip(kSumDigits) || !c.literal("\"")) return fail(Code::bad_file, "irkit.checksum is not 16 hex digits");
  return check_sum(bytes, size, digits_at);
}

struct Span {
  int64_t begin, end;
  const char* name;
};

int by_begin(const void* a, const void* b) {
  const Span *x = static_cast<const Span*>(a), *y = static_cast<const Span*>(b);
  return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1) : x->end < y->end ? -1 : x->end > y->end;
}

// One entry of the header: {"dtype": .., "shape": [..], "data_offsets": [begin, end]}.
Status read_entry(const Json* v, const uint8_t* buffer, int64_t buffer_size, ConstTensor* out, Span* span) {
  const char* name = v->key();
  out->name = span->name = name;
  if (!*name || strlen(name) > kMaxNameBytes)
    return fail(Code::bad_file, "tensor name is empty or longer than 1024 bytes");
  const Json *dtype = v->get("dtype"), *shape = v->get("shape"), *offsets = v->get("data_offsets");
  if (!dtype || !shape || !offsets || v->size() != 3)
    return fail(Code::bad_file, "tensor '%.100s': entry needs exactly dtype, shape and data_offsets", name);
  Tensor& t = out->tensor;
  if (!dtype->str() || !dtype_from_container(dtype->str(), &t.dtype))
    return fail(Code::bad_file, "tensor '%.100s': unknown dtype '%.20s'", name, dtype->str() ? dtype->str() : "?");
  if (!shape->is(Json::Kind::array) || shape->size() > kMaxRank)
    return fail(Code::bad_file, "tensor '%.100s': shape is not a list of at most %d dimensions", name, kMaxRank);
  t.rank = static_cast<int>(shape->size());
  for (int i = 0; i < t.rank; i++)
    if (!shape->at(i)->as_int(&t.dims[i]) || t.dims[i] < 1 || t.dims[i] > kMaxDim)
      return fail(Code::bad_file, "tensor '%.100s': dimension %d is not an integer from 1 to 2^31", name, i);
  if (!size_tensor(&t)) return fail(Code::bad_file, "tensor '%.100s': larger than 2^36 bytes", name);
  if (!offsets->is(Json::Kind::array) || offsets->size() != 2 || !offsets->at(0)->as_int(&span->begin) ||
      !offsets->at(1)->as_int(&span->end))
    return fail(Code::bad_file, "tensor '%.100s': data_offsets is not two integers", name);
  if (span->begin < 0 || span->end < span->begin || span->end > buffer_size)
    return fail(Code::bad_file, "tensor '%.100s': data_offsets [%lld, %lld] outside the buffer of %lld bytes", name,
                ll(span->begin), ll(span->end), ll(buffer_size));
  if (span->end - span->begin != t.bytes)
    return fail(Code::bad_file, "tensor '%.100s': shape needs %lld bytes, data_offsets give %lld", name, ll(t.bytes),
                ll(span->end - span->begin));
  if (span->begin % dtype_size(t.dtype) != 0)
    return fail(Code::bad_file, "tensor '%.100s': offset %lld is not aligned to its element", name, ll(span->begin));
  t.data = buffer + span->begin;
  return Status();
}

Status read_metadata(const Json* meta) {
  for (int64_t i = 0; i < meta->size(); i++)
    if (!meta->at(i)->str())
      return fail(Code::bad_file, "__metadata__ entry '%.100s' is not a string", meta->at(i)->key());
  // A writer that adds what a reader must understand says so here; this reader understands no such thing.
  if (const Json* need = meta->get("irkit.requires"))
    if (*need->str())
      return fail(Code::bad_version, "artifact requires '%.100s', which this irkit does not know", need->str());
  return Status();
}

}  // namespace

bool dtype_from_container(const char* name, DType* out) {
  for (const DTypeName& d : kDTypes)
    if (strcmp(d.container, name) == 0) return *out = d.dtype, true;
  return false;
}

bool dtype_from_plan(const char* name, DType* out) {
  for (const DTypeName& d : kDTypes)
    if (strcmp(d.plan, name) == 0) return *out = d.dtype, true;
  return false;
}

const char* dtype_name(DType t) {
  for (const DTypeName& d : kDTypes)
    if (d.dtype == t) return d.plan;
  return "?";
}

bool size_tensor(Tensor* t) {
  int64_t n = 1;
  if (t->rank < 0 || t->rank > kMaxRank) return false;
  for (int i = 0; i < t->rank; i++)
    if (t->dims[i] < 1 || !mul_ok(n, t->dims[i], &n)) return false;
  t->count = n;
  return mul_ok(n, dtype_size(t->dtype), &t->bytes) && t->bytes <= kMaxTensorBytes;
}

const ConstTensor* ConstTable::find(const char* name) const {
  int64_t lo = 0, hi = entries_.size();
  while (lo < hi) {
    const int64_t mid = lo + (hi - lo) / 2;
    const int c = strcmp(entries_[mid].name, name);
    if (c == 0) return &entries_[mid];
    if (c < 0) lo = mid + 1;
    if (c > 0) hi = mid;
  }
  return nullptr;
}

Status ConstTable::seal() {
  if (entries_.size() > 1)
    qsort(entries_.data(), static_cast<size_t>(entries_.size()), sizeof(ConstTensor), [](const void* a, const void* b) {
      return strcmp(static_cast<const ConstTensor*>(a)->name, static_cast<const ConstTensor*>(b)->name);
    });
  for (int64_t i = 1; i < entries_.size(); i++)
    if (strcmp(entries_[i - 1].name, entries_[i].name) == 0)
      return fail(Code::bad_file, "two constants are named '%.100s'", entries_[i].name);
  return Status();
}

Status ConstTable::keep_names() {
  int64_t bytes = 0;
  for (const ConstTensor& c : entries_) bytes += Texts::bytes(c.name);
  if (!names_.alloc(bytes)) return fail(Code::out_of_memory, "out of memory for the names of constants");
  for (ConstTensor& c : entries_) c.name = names_.add(c.name);
  return Status();
}

Status read_container(const uint8_t* bytes, int64_t size, JsonDoc* names, ConstTable* out) {
  if (size < 8) return fail(Code::bad_file, "file of %lld bytes is too short for a header", ll(size));
  uint64_t n;
  memcpy(&n, bytes, 8);
  if (n > static_cast<uint64_t>(kMaxHeaderBytes))
    return fail(Code::bad_file, "not an irkit artifact: header length %llu is more than 16 MiB",
                static_cast<unsigned long long>(n));
  const int64_t header = static_cast<int64_t>(n);
  if (header > size - 8)
    return fail(Code::bad_file, "header of %lld bytes is cut off: the file has %lld", ll(header), ll(size));
  if (header % 8 != 0) return fail(Code::bad_file, "header length %lld is not a multiple of 8", ll(header));
  IRK_TRY(check_start(bytes, size, header));
  IRK_TRY(names->parse(reinterpret_cast<const char*>(bytes) + 8, header, "header"));
  const Json *root = names->root(), *meta = root->get("__metadata__");
  if (!meta || !meta->is(Json::Kind::object)) return fail(Code::bad_file, "header has no __metadata__ object");
  IRK_TRY(read_metadata(meta));

  const int64_t count = root->size() - 1, buffer_size = size - 8 - header;
  if (count > kMaxTensors) return fail(Code::bad_file, "%lld tensors; at most %lld", ll(count), ll(kMaxTensors));
  Array<Span> spans;
  if (!out->alloc(count) || !spans.alloc(count))
    return fail(Code::out_of_memory, "out of memory for %lld tensors", ll(count));
  int64_t k = 0;
  for (int64_t i = 0; i < root->size(); i++) {
    if (root->at(i) == meta) continue;
    IRK_TRY(read_entry(root->at(i), bytes + 8 + header, buffer_size, &out->entries()[k], &spans[k]));
    k++;
  }
  if (count > 1) qsort(spans.data(), static_cast<size_t>(count), sizeof(Span), by_begin);
  int64_t at = 0;
  for (const Span& s : spans) {
    if (s.begin != at)
      return fail(Code::bad_file, "tensor '%.100s' begins at %lld, the one before ends at %lld: %s", s.name,
                  ll(s.begin), ll(at), s.begin > at ? "hole" : "overlap");
    at = s.end;
  }
  if (at != buffer_size) return fail(Code::bad_file, "%lld bytes after the last tensor", ll(buffer_size - at));
  return out->seal();
}

FileBytes::~FileBytes() { release(); }

void FileBytes::release() {
  void* own = const_cast<uint8_t*>(data_);
  if (kind_ == Kind::mapped) munmap(own, static_cast<size_t>(size_));
  if (kind_ == Kind::owned) free(own);
  data_ = nullptr;
  size_ = 0;
  kind_ = Kind::owned;
}

Status FileBytes::map(const char* path) {
  release();
  // O_NONBLOCK: opening a FIFO must not wait for a writer; it has no effect on a regular file.
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail(Code::io, "can't open '%.150s': %s", path, strerror(errno));
  struct stat st;
  Status s;
  if (fstat(fd, &st) != 0) {
    s = fail(Code::io, "can't stat '%.150s': %s", path, strerror(errno));
  } else if (!S_ISREG(st.st_mode)) {
    s = fail(Code::io, "'%.150s' is not a regular file", path);
  } else if (st.st_size == 0) {
    s = fail(Code::bad_file, "'%.150s' is empty", path);
  } else {
    // A small file at once, in place of a fault for every few pages.
    const bool small = st.st_size <= kSmallBytes;
    void* p = mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_PRIVATE | (small ? kPopulate : 0), fd, 0);
    if (p == MAP_FAILED) {
      s = fail(errno == ENOMEM ? Code::out_of_memory : Code::io, "can't map '%.150s': %s", path, strerror(errno));
    } else {
      data_ = static_cast<uint8_t*>(p);
      size_ = st.st_size;
      kind_ = Kind::mapped;
      piece_ = kPieceBytes + size_ / kMostPieces / kPieceBytes * kPieceBytes;
      if (!small) map_in_pieces(p, static_cast<size_t>(size_), static_cast<size_t>(piece_));
    }
  }
  close(fd);
  return s;
}

void FileBytes::drop_pages(const void* begin, int64_t bytes) const {
  const uint8_t* const from = static_cast<const uint8_t*>(begin);
  if (kind_ != Kind::mapped || from < data_ || bytes <= 0 || bytes > size_ - (from - data_)) return;
  const int64_t first = (from - data_) / piece_ * piece_, end = (from - data_ + bytes + piece_ - 1) / piece_ * piece_;
  madvise(const_cast<uint8_t*>(data_) + first, static_cast<size_t>((end < size_ ? end : size_) - first), MADV_DONTNEED);
}

Status FileBytes::copy(const void* data, int64_t size) {
  release();
  if (size < 0) return fail(Code::bad_input, "negative size");
  void* own = malloc(static_cast<size_t>(size) + 1);
  if (!own) return fail(Code::out_of_memory, "out of memory for a copy of %lld bytes", ll(size));
  if (size) memcpy(own, data, static_cast<size_t>(size));
  data_ = static_cast<uint8_t*>(own);
  size_ = size;
  return Status();
}

Status FileBytes::borrow(const void* data, int64_t size) {
  release();
  if (size < 0 || reinterpret_cast<uintptr_t>(data) % 8)
    return fail(Code::bad_input, "an artifact's bytes must be aligned to 8 bytes");
  data_ = static_cast<const uint8_t*>(data);
  size_ = size;
  kind_ = Kind::borrowed;
  return Status();
}

}  // namespace irk
