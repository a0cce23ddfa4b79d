#include "tools/npy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/file.h"

namespace tool {
namespace {

constexpr int kMaxRank = 8;
constexpr size_t kMaxHeader = 65536;  // of a plain array: some hundred bytes

struct Header {
  irk_dtype dtype;
  bool known;      // dtype is one of ours
  char descr[16];  // as the file spells it
  bool fortran;
  int rank;
  int64_t dims[kMaxRank];
};

const char* const kDescr[] = {"<f4", "<f8", "|i1", "|u1", "<i2", "<i4", "<i8", "|b1"};  // by irk_dtype

__attribute__((format(printf, 2, 3))) bool say(char message[kMessage], const char* fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(message, kMessage, fmt, ap);
  va_end(ap);
  return false;
}

// Reads a dictionary as Python prints it: {'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }
class Parser {
 public:
  Parser(const char* text, size_t n) : at_(text), end_(text + n) {}

  bool header(Header* h) {
    memset(h, 0, sizeof *h);
    bool descr = false, order = false, shape = false;
    if (!token('{')) return false;
    while (!token('}')) {
      char key[16];
      if (!string(key, sizeof key) || !token(':')) return false;
      if (strcmp(key, "descr") == 0 && !descr)
        descr = string(h->descr, sizeof h->descr);
      else if (strcmp(key, "fortran_order") == 0 && !order)
        order = (h->fortran = word("True")) || word("False");
      else if (strcmp(key, "shape") == 0 && !shape)
        shape = dims(h);
      else
        return false;
      if (!token(',') && !(peek() == '}')) return false;
    }
    if (peek() != '\0' || !descr || !order || !shape) return false;
    for (int t = 0; t <= IRK_BOOL; t++)
      if (strcmp(h->descr + 1, kDescr[t] + 1) == 0 && h->descr[0] != '>')
        h->dtype = static_cast<irk_dtype>(t), h->known = true;
    return true;
  }

 private:
  char peek() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n')) at_++;
    return at_ < end_ ? *at_ : '\0';
  }
  bool token(char c) {
    if (peek() != c) return false;
    at_++;
    return true;
  }
  bool word(const char* w) {
    peek();
    const size_t n = strlen(w);
    if (static_cast<size_t>(end_ - at_) < n || memcmp(at_, w, n) != 0) return false;
    at_ += n;
    return true;
  }
  bool string(char* out, size_t room) {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return false;
    const char* begin = ++at_;
    while (at_ < end_ && *at_ != quote) at_++;
    const size_t n = static_cast<size_t>(at_ - begin);
    if (at_ == end_ || n == 0 || n >= room) return false;
    at_++;
    memcpy(out, begin, n);
    out[n] = '\0';
    return true;
  }
  bool dims(Header* h) {
    if (!token('(')) return false;
    while (!token(')')) {
      if (h->rank == kMaxRank || peek() < '0' || peek() > '9') return false;
      int64_t v = 0;
      for (; at_ < end_ && *at_ >= '0' && *at_ <= '9'; at_++)
        if (__builtin_mul_overflow(v, int64_t{10}, &v) || __builtin_add_overflow(v, *at_ - '0', &v)) return false;
      h->dims[h->rank++] = v;
      if (!token(',') && peek() != ')') return false;
    }
    return true;
  }
  const char *at_, *end_;
};

uint32_t little(const unsigned char* p, int n) {
  uint32_t v = 0;
  while (n-- > 0) v = v << 8 | p[n];
  return v;
}

bool read_header(InputFile& f, const char* path, Header* out, char message[kMessage]) {
  unsigned char start[12];
  if (!f.read(start, 10) || memcmp(start, "\x93NUMPY", 6) != 0) return say(message, "%s is not an .npy file", path);
  const int major = start[6], length_bytes = major == 1 ? 2 : 4;
  if (major < 1 || major > 3)
    return say(message, "%s: .npy version %d.%d is not 1.0, 2.0 or 3.0", path, major, start[7]);
  if (length_bytes == 4 && !f.read(start + 10, 2)) return say(message, "%s: the .npy header is cut off", path);
  const size_t n = little(start + 8, length_bytes);
  if (n > kMaxHeader) return say(message, "%s: an .npy header of %zu bytes is no plain array's", path, n);
  char* text = static_cast<char*>(malloc(n + 1));
  if (!text) return say(message, "%s: out of memory", path);
  bool ok = f.read(text, n);
  if (!ok)
    say(message, "%s: the .npy header is cut off", path);
  else if (!(ok = Parser(text, n).header(out)))
    say(message, "%s: the .npy header is not that of a plain array", path);
  free(text);
  return ok;
}

// dst in C order from src in Fortran order.
void from_fortran(const Header& h, size_t size, const char* src, char* dst) {
  int64_t index[kMaxRank] = {0}, stride[kMaxRank], count = 1;
  for (int d = 0; d < h.rank; d++) stride[d] = count, count *= h.dims[d];
  for (int64_t i = 0; i < count; i++) {
    int64_t from = 0;
    for (int d = 0; d < h.rank; d++) from += index[d] * stride[d];
    memcpy(dst + static_cast<size_t>(i) * size, src + static_cast<size_t>(from) * size, size);
    for (int d = h.rank; d-- > 0 && ++index[d] == h.dims[d];) index[d] = 0;
  }
}

bool read_npy(InputFile& f, const char* path, const irk_tensor& port, void* buffer, char message[kMessage]) {
  Header h;
  if (!read_header(f, path, &h, message)) return false;
  char want[128], got[128];
  type_text(port.dtype, port.dims, port.rank, want, sizeof want);
  if (!h.known) {
    const char* why = h.descr[0] == '>' ? " (big endian)" : "";
    return say(message, "expected %s, %s holds dtype '%s'%s", want, path, h.descr, why);
  }
  type_text(h.dtype, h.dims, h.rank, got, sizeof got);
  if (strcmp(want, got) != 0) return say(message, "expected %s, %s holds %s", want, path, got);
  void* into = buffer;
  if (h.fortran && !(into = malloc(port.bytes))) return say(message, "%s: out of memory", path);
  char more;
  const bool whole = f.read(into, port.bytes), longer = whole && f.read(&more, 1);
  if (whole && h.fortran)
    from_fortran(h, irk_dtype_size(h.dtype), static_cast<char*>(into), static_cast<char*>(buffer));
  if (into != buffer) free(into);
  if (!whole) return say(message, "%s is cut off: %s takes %zu bytes", path, got, port.bytes);
  if (longer) return say(message, "%s: more bytes than the %zu of %s", path, port.bytes, got);
  return true;
}

// In `out`: the whole start of a file, a multiple of 64 bytes. Returns its length.
size_t npy_start(const irk_tensor& port, char out[512]) {
  int n = snprintf(out + 10, 400, "{'descr': '%s', 'fortran_order': False, 'shape': (", kDescr[port.dtype]);
  for (int d = 0; d < port.rank; d++)
    n += snprintf(out + 10 + n, 32, "%s%lld", d ? ", " : "", static_cast<long long>(port.dims[d]));
  n += snprintf(out + 10 + n, 32, "%s), }", port.rank == 1 ? "," : "");
  while ((10 + n + 1) % 64) out[10 + n++] = ' ';
  out[10 + n++] = '\n';
  memcpy(out, "\x93NUMPY\x01\x00", 8);
  out[8] = static_cast<char>(n & 255);
  out[9] = static_cast<char>(n >> 8);
  return static_cast<size_t>(10 + n);
}

}  // namespace

Format format_of(const char* path) {
  const size_t n = strlen(path);
  const char* end = n >= 4 ? path + n - 4 : "";
  return strcmp(end, ".npy") == 0 ? Format::npy : strcmp(end, ".bin") == 0 ? Format::raw : Format::unknown;
}

void type_text(irk_dtype dtype, const int64_t* dims, int rank, char* out, size_t size) {
  int n = snprintf(out, size, "%s[", irk_dtype_name(dtype));
  for (int d = 0; d < rank; d++)
    n += snprintf(out + n, size - static_cast<size_t>(n), "%s%lld", d ? "," : "", static_cast<long long>(dims[d]));
  snprintf(out + n, size - static_cast<size_t>(n), "]");
}

bool read_array(const char* path, const irk_tensor& port, void* buffer, char message[kMessage]) {
  InputFile f;
  if (!f.open(path, message)) return false;
  if (format_of(path) == Format::npy) return read_npy(f, path, port, buffer, message);
  if (static_cast<uint64_t>(f.size()) != port.bytes) {
    char want[128];
    type_text(port.dtype, port.dims, port.rank, want, sizeof want);
    return say(message, "expected the %zu bytes of %s, %s has %lld", port.bytes, want, path,
               static_cast<long long>(f.size()));
  }
  return f.read(buffer, port.bytes) || say(message, "%s can't be read: %s", path, strerror(errno));
}

bool write_array(const char* path, const irk_tensor& port, const void* data, char message[kMessage]) {
  char start[512];
  const size_t n = format_of(path) == Format::npy ? npy_start(port, start) : 0;
  return replace_file(path, start, n, data, port.bytes, message);
}

}  // namespace tool
