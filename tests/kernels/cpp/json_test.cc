// The JSON reader: what it takes, what it refuses, and that nothing of any shape makes it recurse or overrun.
#include "base/json.h"

#include "check.h"

namespace {

using irk::Code;
using irk::Json;
using irk::JsonDoc;

irk::Status parse(JsonDoc* doc, const char* text) { return doc->parse(text, static_cast<int64_t>(strlen(text)), "t"); }

void values() {
  JsonDoc doc;
  CHECK_OK(parse(&doc,
                 " {\"b\": [1, -2, 3.5e2, true, false, null, \"x\\u00e9\\n\\ud83d\\ude00\"], \"a\": {}, \"c\": "
                 "-9223372036854775808}\n"));
  const Json* root = doc.root();
  CHECK(root->is(Json::Kind::object) && root->size() == 3);
  CHECK(strcmp(root->at(0)->key(), "a") == 0 && root->get("a")->size() == 0);
  const Json* b = root->get("b");
  int64_t i = 0;
  double d = 0;
  CHECK(b && b->size() == 7 && b->at(7) == nullptr && b->at(-1) == nullptr);
  CHECK(b->at(0)->as_int(&i) && i == 1 && b->at(1)->as_int(&i) && i == -2);
  CHECK(!b->at(2)->as_int(&i) && b->at(2)->as_real(&d) && d == 350.0);
  CHECK(b->at(0)->as_real(&d) && d == 1.0);
  CHECK(b->at(3)->boolean() && !b->at(4)->boolean() && b->at(5)->is(Json::Kind::null));
  CHECK(!b->at(3)->as_int(&i) && !b->at(3)->as_real(&d));
  CHECK(strcmp(b->at(6)->str(), "x\xc3\xa9\n\xf0\x9f\x98\x80") == 0);
  CHECK(root->get("c")->as_int(&i) && i == INT64_MIN);
  CHECK(root->get("d") == nullptr && b->get("a") == nullptr && b->str() == nullptr);
  CHECK_OK(parse(&doc, "9223372036854775808"));  // beyond int64: a real
  CHECK(!doc.root()->as_int(&i) && doc.root()->as_real(&d) && d == 9223372036854775808.0);
}

void refused() {
  static const char* const bad[] = {"",
                                    " ",
                                    "{",
                                    "[",
                                    "[1",
                                    "[1,",
                                    "[1,]",
                                    "[,1]",
                                    "{\"a\"",
                                    "{\"a\":",
                                    "{\"a\":1",
                                    "{\"a\":1,",
                                    "{\"a\":1,}",
                                    "{1:2}",
                                    "{\"a\" 1}",
                                    "[1}",
                                    "{\"a\":1]",
                                    "]",
                                    "1 2",
                                    "tru",
                                    "nul",
                                    "True",
                                    "+1",
                                    "-",
                                    "01",
                                    "-01",
                                    ".5",
                                    "1.",
                                    "1e",
                                    "1e+",
                                    "0x1",
                                    "NaN",
                                    "Infinity",
                                    "\"",
                                    "\"\\\"",
                                    "\"\\q\"",
                                    "\"\\u12\"",
                                    "\"\\u0000\"",
                                    "\"\\ud800\"",
                                    "\"\\ud800\\u0041\"",
                                    "\"\\udc00\"",
                                    "\"\t\"",
                                    "\"\x80\"",
                                    "\"\xc0\xaf\"",
                                    "\"\xe0\x80\x80\"",
                                    "\"\xed\xa0\x80\"",
                                    "\"\xf4\x90\x80\x80\"",
                                    "\"\xe2\x82\"",
                                    "1e999",
                                    "-1e999",
                                    "{\"a\":1,\"a\":1}",
                                    "{\"a\":{\"b\":0,\"c\":1,\"b\":2}}",
                                    "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]",
                                    "'a'",
                                    "// x\n1",
                                    "\xef\xbb\xbf"
                                    "1"};
  for (const char* text : bad) {
    JsonDoc doc;
    const irk::Status s = parse(&doc, text);
    if (s.code != Code::bad_file) fprintf(stderr, "taken: %s\n", text);
    CHECK(s.code == Code::bad_file && s.msg[0]);
  }
  JsonDoc doc;
  CHECK_OK(parse(&doc, "[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]"));  // 16 deep
}

void big() {
  // Many keys in one object: found, kept apart, and not quadratic.
  constexpr int n = 200000;
  char* text = static_cast<char*>(malloc(n * 24));
  char* p = text;
  *p++ = '{';
  for (int i = 0; i < n; i++) p += snprintf(p, 24, "\"k%d\":%d,", (i * 7919) % n, i);
  p[-1] = '}';
  JsonDoc doc;
  CHECK_OK(doc.parse(text, p - text, "t"));
  int64_t v = -1;
  CHECK(doc.root()->size() == n && doc.root()->get("k7919")->as_int(&v) && v == 1);
  free(text);
  // More values than the limit, as cheaply as a file can state them.
  const int64_t m = 2 * (irk::kMaxJsonValues + 2);
  text = static_cast<char*>(malloc(static_cast<size_t>(m)));
  memset(text, ',', static_cast<size_t>(m));
  for (int64_t i = 0; i < m; i += 2) text[i] = '1';
  text[0] = '[';
  CHECK_FAILS(doc.parse(text, m, "t"), Code::bad_file, "more than 2097152 values");
  free(text);
}

// Every prefix and every one-byte change of a text gives a verdict, reads nothing outside (under ASan), never hangs.
void mutations() {
  static const char text[] = "{\"a\":[1,-2.5e-3,\"\\u00e9\\\\\"],\"b\":{\"c\":null,\"d\":true}}";
  constexpr int n = sizeof text - 1;
  for (int len = 0; len <= n; len++) {
    char* exact = static_cast<char*>(malloc(static_cast<size_t>(len) + (len == 0)));
    memcpy(exact, text, static_cast<size_t>(len));
    JsonDoc doc;
    CHECK(doc.parse(exact, len, "t").ok() == (len == n));
    free(exact);
  }
  int taken = 0;
  for (int at = 0; at < n; at++) {
    for (int c = 0; c < 256; c++) {
      char* copy = static_cast<char*>(malloc(n));
      memcpy(copy, text, n);
      copy[at] = static_cast<char>(c);
      JsonDoc doc;
      taken += doc.parse(copy, n, "t").ok();
      free(copy);
    }
  }
  CHECK(taken > n && taken < n * 256);
}

}  // namespace

int main() {
  values();
  refused();
  big();
  mutations();
  return report("json_test");
}
