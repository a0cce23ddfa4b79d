#include "base/json.h"

#include <string.h>
#include <sys/mman.h>

#include "base/number.h"

namespace irk {

const Json* Json::at(int64_t i) const { return i >= 0 && i < size() ? value_.children[i] : nullptr; }

const Json* Json::get(const char* key) const {
  if (!is(Kind::object)) return nullptr;
  int64_t lo = 0, hi = count_;
  while (lo < hi) {
    const int64_t mid = lo + (hi - lo) / 2;
    const int c = strcmp(value_.children[mid]->key_, key);
    if (c == 0) return value_.children[mid];
    if (c < 0) lo = mid + 1;
    if (c > 0) hi = mid;
  }
  return nullptr;
}

bool Json::as_int(int64_t* out) const {
  if (!is(Kind::integer)) return false;
  *out = value_.integer;
  return true;
}

bool Json::as_real(double* out) const {
  if (is(Kind::integer)) {
    *out = static_cast<double>(value_.integer);
    return true;
  }
  if (!is(Kind::real)) return false;
  *out = value_.real;
  return true;
}

class JsonParser {
 public:
  JsonParser(const char* text, int64_t n, const char* what) : p_(text), end_(text + n), start_(text), what_(what) {}

  Status run(void** memory, size_t* bytes, const Json** root) {
    const int64_t most = count_values();
    if (most > kMaxJsonValues) return error("more than 2097152 values");
    // Unescaped text and its NUL never exceed the quoted form, so the input's size bounds all strings.
    const size_t nodes = static_cast<size_t>(most + 1) * sizeof(Json),
                 links = static_cast<size_t>(most) * sizeof(Json*);
    const size_t size = nodes + links + static_cast<size_t>(end_ - start_) + 1;
    // Pages of its own: a heap would keep them when the document is gone.
    void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return fail(Code::out_of_memory, "%s: out of memory", what_);
    *memory = p;
    *bytes = size;
    nodes_ = static_cast<Json*>(*memory);
    links_ = reinterpret_cast<Json**>(static_cast<char*>(*memory) + nodes);
    text_ = static_cast<char*>(*memory) + nodes + links;
    max_ = most;
    IRK_TRY(parse());
    *root = &nodes_[1];
    return Status();
  }

 private:
  struct Open {
    uint32_t node, last;  // the container and its latest child (0: none yet)
  };

  Status error(const char* message) const {
    return fail(Code::bad_file, "%s: byte %lld: %s", what_, static_cast<long long>(p_ - start_), message);
  }

  // Upper bound: every value but the first follows a comma or an opening bracket.
  int64_t count_values() const {
    int64_t n = 1;
    bool quoted = false;
    for (const char* p = start_; p < end_; p++) {
      if (quoted) {
        if (*p == '\\')
          p++;
        else if (*p == '"')
          quoted = false;
      } else if (*p == '"') {
        quoted = true;
      } else if (*p == ',' || *p == '[' || *p == '{') {
        n++;
      }
    }
    return n;
  }

  void space() {
    while (p_ < end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\t' || *p_ == '\r')) p_++;
  }

  bool take(char c) {
    if (p_ >= end_ || *p_ != c) return false;
    p_++;
    return true;
  }

  Status parse() {
    Open stack[kMaxJsonDepth];
    int depth = 0;
    for (;;) {
      const char* key = nullptr;
      if (depth && nodes_[stack[depth - 1].node].is(Json::Kind::object)) {
        space();
        if (p_ >= end_ || *p_ != '"') return error("expected a key");
        IRK_TRY(string(&key));
        space();
        if (!take(':')) return error("expected ':'");
      }
      space();
      if (used_ >= max_) return error("too many values");  // cannot happen: count_values is an upper bound
      const uint32_t index = static_cast<uint32_t>(++used_);
      Json& v = nodes_[index];
      v.key_ = key;
      v.next_ = 0;
      v.count_ = 0;
      if (depth) append(stack[depth - 1], index);
      IRK_TRY(value(&v));
      if (v.is(Json::Kind::array) || v.is(Json::Kind::object)) {
        if (depth == kMaxJsonDepth) return error("nested too deeply");
        stack[depth++] = {index, 0};
        space();
        if (p_ >= end_) return error("unexpected end");
        if (*p_ != (v.is(Json::Kind::array) ? ']' : '}')) continue;
      }
      // A value is complete: close what closes, stop at a comma or at the end.
      for (;;) {
        space();
        if (depth == 0) {
          if (p_ != end_) return error("text after the end");
          return Status();
        }
        const Open top = stack[depth - 1];
        if (take(nodes_[top.node].is(Json::Kind::array) ? ']' : '}')) {
          IRK_TRY(close(&nodes_[top.node], top.last));
          depth--;
          continue;
        }
        if (!take(',')) return error(p_ >= end_ ? "unexpected end" : "expected ',' or a closing bracket");
        break;
      }
    }
  }

  // While a container is open, its children form a ring through next_, so that `last` leads to the first.
  void append(Open& open, uint32_t index) {
    Json& parent = nodes_[open.node];
    if (open.last) {
      nodes_[index].next_ = nodes_[open.last].next_;
      nodes_[open.last].next_ = index;
    } else {
      nodes_[index].next_ = index;
    }
    open.last = index;
    parent.count_++;
  }

  Status close(Json* v, uint32_t last) {
    Json** out = links_ + links_used_;
    const int64_t n = v->count_;
    links_used_ += n;
    v->value_.children = out;
    uint32_t i = last;
    for (int64_t k = 0; k < n; k++) {
      i = nodes_[i].next_;
      out[k] = &nodes_[i];
    }
    if (!v->is(Json::Kind::object)) return Status();
    sort(out, n);
    for (int64_t k = 1; k < n; k++)
      if (strcmp(out[k - 1]->key_, out[k]->key_) == 0)
        return fail(Code::bad_file, "%s: duplicate key '%.100s'", what_, out[k]->key_);
    return Status();
  }

  // Heap sort: no bad cases for a file to aim at, no memory.
  static void sort(Json** a, int64_t n) {
    for (int64_t i = n / 2; i-- > 0;) sift(a, i, n);
    for (int64_t i = n; i-- > 1;) {
      Json* t = a[0];
      a[0] = a[i];
      a[i] = t;
      sift(a, 0, i);
    }
  }

  static void sift(Json** a, int64_t root, int64_t n) {
    for (;;) {
      int64_t child = 2 * root + 1;
      if (child >= n) return;
      if (child + 1 < n && strcmp(a[child]->key_, a[child + 1]->key_) < 0) child++;
      if (strcmp(a[root]->key_, a[child]->key_) >= 0) return;
      Json* t = a[root];
      a[root] = a[child];
      a[child] = t;
      root = child;
    }
  }

  Status value(Json* v) {
    if (p_ >= end_) return error("unexpected end");
    switch (*p_) {
      case '{':
        v->kind_ = Json::Kind::object;
        p_++;
        return Status();
      case '[':
        v->kind_ = Json::Kind::array;
        p_++;
        return Status();
      case '"':
        v->kind_ = Json::Kind::string;
        return string(&v->value_.text);
      case 't':
        return word(v, "true", Json::Kind::boolean, 1);
      case 'f':
        return word(v, "false", Json::Kind::boolean, 0);
      case 'n':
        return word(v, "null", Json::Kind::null, 0);
      default:
        return number(v);
    }
  }

  Status word(Json* v, const char* text, Json::Kind kind, int64_t value) {
    const size_t n = strlen(text);
    if (static_cast<size_t>(end_ - p_) < n || memcmp(p_, text, n) != 0) return error("unknown word");
    p_ += n;
    v->kind_ = kind;
    v->value_.integer = value;
    return Status();
  }

  bool digits() {
    const char* from = p_;
    while (p_ < end_ && *p_ >= '0' && *p_ <= '9') p_++;
    return p_ > from;
  }

  Status number(Json* v) {
    const char* from = p_;
    bool integer = true;
    take('-');
    const char* first = p_;
    if (!digits()) return error("expected a value");
    if (*first == '0' && p_ - first > 1) return error("number with a leading zero");
    if (take('.')) {
      integer = false;
      if (!digits()) return error("expected digits after '.'");
    }
    if (p_ < end_ && (*p_ == 'e' || *p_ == 'E')) {
      integer = false;
      p_++;
      if (!take('-')) take('+');
      if (!digits()) return error("expected digits of an exponent");
    }
    if (integer) {
      v->kind_ = Json::Kind::integer;
      if (read_int(from, p_ - from, &v->value_.integer)) return Status();
    }
    v->kind_ = Json::Kind::real;
    if (!read_real(from, p_ - from, &v->value_.real)) return error("number out of range");
    return Status();
  }

  bool hex4(uint32_t* out) {
    if (end_ - p_ < 4) return false;
    *out = 0;
    for (int i = 0; i < 4; i++, p_++) {
      const char c = *p_;
      int d;
      if (c >= '0' && c <= '9')
        d = c - '0';
      else if (c >= 'a' && c <= 'f')
        d = c - 'a' + 10;
      else if (c >= 'A' && c <= 'F')
        d = c - 'A' + 10;
      else
        return false;
      *out = *out * 16 + static_cast<uint32_t>(d);
    }
    return true;
  }

  void put(uint32_t byte) { *text_++ = static_cast<char>(byte); }

  void put_utf8(uint32_t c) {
    if (c < 0x80) {
      put(c);
    } else if (c < 0x800) {
      put(0xc0 | c >> 6);
      put(0x80 | (c & 63));
    } else if (c < 0x10000) {
      put(0xe0 | c >> 12);
      put(0x80 | (c >> 6 & 63));
      put(0x80 | (c & 63));
    } else {
      put(0xf0 | c >> 18);
      put(0x80 | (c >> 12 & 63));
      put(0x80 | (c >> 6 & 63));
      put(0x80 | (c & 63));
    }
  }

  Status escape() {
    if (p_ >= end_) return error("unexpected end");
    const char c = *p_++;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        put(static_cast<uint8_t>(c));
        return Status();
      case 'b':
        put('\b');
        return Status();
      case 'f':
        put('\f');
        return Status();
      case 'n':
        put('\n');
        return Status();
      case 'r':
        put('\r');
        return Status();
      case 't':
        put('\t');
        return Status();
      case 'u':
        break;
      default:
        return error("unknown escape");
    }
    uint32_t u, low;
    if (!hex4(&u)) return error("expected 4 hex digits");
    if (u == 0) return error("NUL in a string");
    if (u >= 0xdc00 && u < 0xe000) return error("lone surrogate");
    if (u >= 0xd800 && u < 0xdc00) {
      if (!take('\\') || !take('u') || !hex4(&low) || low < 0xdc00 || low > 0xdfff) return error("lone surrogate");
      u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
    }
    put_utf8(u);
    return Status();
  }

  // Copies one UTF-8 sequence of 2 to 4 bytes (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
  bool utf8() {
    const uint8_t lead = static_cast<uint8_t>(*p_);
    const int n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || end_ - p_ < n) return false;
    uint32_t c = lead & (0xffu >> (n + 1));
    for (int i = 1; i < n; i++) {
      const uint8_t b = static_cast<uint8_t>(p_[i]);
      if ((b & 0xc0) != 0x80) return false;
      c = c << 6 | (b & 63);
    }
    if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) || (n == 4 && (c < 0x10000 || c > 0x10ffff)))
      return false;
    for (int i = 0; i < n; i++) put(static_cast<uint8_t>(*p_++));
    return true;
  }

  Status string(const char** out) {
    p_++;  // the quote
    *out = text_;
    while (p_ < end_) {
      const uint8_t c = static_cast<uint8_t>(*p_);
      if (c == '"') {
        p_++;
        put(0);
        return Status();
      }
      if (c < 0x20) return error("control character in a string");
      if (c >= 0x80) {
        if (!utf8()) return error("invalid UTF-8");
      } else {
        p_++;
        if (c != '\\')
          put(c);
        else
          IRK_TRY(escape());
      }
    }
    return error("unterminated string");
  }

  const char* p_;
  const char* end_;
  const char* start_;
  const char* what_;
  Json* nodes_ = nullptr;  // nodes_[0] is unused: index 0 means none
  Json** links_ = nullptr;
  char* text_ = nullptr;
  int64_t max_ = 0, used_ = 0, links_used_ = 0;
};

void JsonDoc::clear() {
  if (memory_) munmap(memory_, bytes_);
  memory_ = nullptr;
  root_ = nullptr;
}

Status JsonDoc::parse(const char* text, int64_t n, const char* what) {
  clear();
  return JsonParser(text, n, what).run(&memory_, &bytes_, &root_);
}

}  // namespace irk
