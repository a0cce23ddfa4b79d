// A small strict JSON reader (RFC 8259) for files that nobody vouches for.
//
// No recursion, depth and value count limited, one allocation bounded by the input's size, duplicate keys refused,
// strings valid UTF-8 without NUL (so they are C strings), integers exact in int64.
#pragma once
#include "base/status.h"
#include "base/types.h"

namespace irk {

constexpr int kMaxJsonDepth = 16;
constexpr int64_t kMaxJsonValues = 1 << 21;

// One value. Owned by its JsonDoc.
class Json {
 public:
  enum class Kind : uint8_t { null, boolean, integer, real, string, array, object };

  Kind kind() const { return kind_; }
  bool is(Kind k) const { return kind_ == k; }
  // Children of an array or object, else 0.
  int64_t size() const { return is(Kind::array) || is(Kind::object) ? count_ : 0; }
  // Child i of an array; of an object in order of the keys' bytes.
  const Json* at(int64_t i) const;
  // This value's key in its object; null in an array.
  const char* key() const { return key_; }
  // Member of an object; null when absent or when this is no object.
  const Json* get(const char* key) const;
  // The text of a string, else null.
  const char* str() const { return is(Kind::string) ? value_.text : nullptr; }
  bool boolean() const { return is(Kind::boolean) && value_.integer != 0; }
  bool as_int(int64_t* out) const;
  bool as_real(double* out) const;  // integers too

 private:
  friend class JsonDoc;
  friend class JsonParser;
  const char* key_;
  union {
    int64_t integer;
    double real;
    const char* text;
    Json* const* children;  // sorted by key in an object
  } value_;
  uint32_t next_;  // while parsing: index of the next sibling, 0 for none
  uint32_t count_ : 28;
  Kind kind_ : 4;
};
static_assert(sizeof(Json) <= 24, "bounds the memory a file can make us use");

class JsonDoc {
 public:
  JsonDoc() = default;
  JsonDoc(const JsonDoc&) = delete;
  JsonDoc& operator=(const JsonDoc&) = delete;
  ~JsonDoc() { clear(); }

  // Reads text[0, n); `what` names it in messages. Code::bad_file or out_of_memory.
  Status parse(const char* text, int64_t n, const char* what);
  const Json* root() const { return root_; }
  // Gives the memory back; values and their texts are gone.
  void clear();

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
  const Json* root_ = nullptr;
};

}  // namespace irk
