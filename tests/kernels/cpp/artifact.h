// A small artifact of steps of the family "testing", built without irkit's own writer.
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/xxh64.h"

constexpr int kCount = 5000;

struct Blob {
  uint8_t bytes[1 << 16];
  int64_t size = 0, header = 0;  // of the header without its length field
};

// Writes the right checksum into a blob whose header begins as it should; else leaves it alone.
inline void seal(Blob* b) {
  static const char start[] = "{\"__metadata__\":{\"irkit.version\":\"1.0\",\"irkit.checksum\":\"xxh64:";
  const int64_t at = 8 + static_cast<int64_t>(sizeof start) - 1;
  if (b->size < at + 16 || memcmp(b->bytes + 8, start, sizeof start - 1) != 0) return;
  memset(b->bytes + at, '0', 16);
  irk::Xxh64 h;
  h.update(b->bytes, b->size);
  char digits[17];
  snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(h.digest()));
  memcpy(b->bytes + at, digits, 16);
}

// y = (x * 2 + i) * 0.5 + i, over kCount elements, through the arena; a constant rides along.
inline const char* plan_text() {
  static char text[2048];
  snprintf(text, sizeof text,
           "{\"version\":1,\"inputs\":[{\"name\":\"x\",\"tensor\":0}],\"outputs\":[{\"name\":\"y\",\"tensor\":2}],"
           "\"tree\":\"\","
           "\"tensors\":[{\"dtype\":\"f32\",\"shape\":[%d],\"loc\":[\"in\",0]},{\"dtype\":\"f32\",\"shape\":[%d],"
           "\"loc\":[\"arena\",64]},"
           "{\"dtype\":\"f32\",\"shape\":[%d],\"loc\":[\"out\",0]},{\"dtype\":\"i8\",\"shape\":[4],\"scale\":0.5,"
           "\"zero\":-3,"
           "\"loc\":[\"const\",\"w\"]}],\"arena\":%d,\"steps\":["
           "{\"family\":\"testing\",\"in\":[0,3],\"out\":[1],\"attrs\":{\"factor\":2,\"grain\":16,\"scratch\":64},"
           "\"name\":\"a\"},"
           "{\"family\":\"testing\",\"in\":[1],\"out\":[2],\"attrs\":{\"factor\":0.5,\"grain\":100,\"scratch\":64},"
           "\"name\":\"b\"}]}",
           kCount, kCount, kCount, 64 + 4 * kCount);
  return text;
}

inline float expected(float x, int i) {
  const float a = 2 * x + static_cast<float>(i);
  return 0.5f * a + static_cast<float>(i);
}

inline void build(Blob* b) {
  const char* plan = plan_text();
  const int n = static_cast<int>(strlen(plan));
  char header[512];
  int len = snprintf(header, sizeof header,
                     "{\"__metadata__\":{\"irkit.version\":\"1.0\",\"irkit.checksum\":\"xxh64:0000000000000000\"},"
                     "\"irkit.plan\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[4,%d]},"
                     "\"w\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
                     n, n + 4);
  while (len % 8) header[len++] = ' ';
  const uint64_t length = static_cast<uint64_t>(len);
  memcpy(b->bytes, &length, 8);
  memcpy(b->bytes + 8, header, static_cast<size_t>(len));
  memcpy(b->bytes + 8 + len, "\1\2\3\4", 4);
  memcpy(b->bytes + 12 + len, plan, static_cast<size_t>(n));
  b->header = len;
  b->size = 12 + len + n;
  seal(b);
}
