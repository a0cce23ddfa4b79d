// A test is a function that calls CHECK; main() returns report().
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

inline int g_failed = 0, g_checks = 0;

#define CHECK(cond)                                                      \
  do {                                                                   \
    g_checks++;                                                          \
    if (!(cond)) {                                                       \
      g_failed++;                                                        \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
    }                                                                    \
  } while (0)

#define CHECK_OK(expr)                                                              \
  do {                                                                              \
    const irk::Status s_ = (expr);                                                  \
    g_checks++;                                                                     \
    if (!s_.ok()) {                                                                 \
      g_failed++;                                                                   \
      fprintf(stderr, "%s:%d: %s failed: %s\n", __FILE__, __LINE__, #expr, s_.msg); \
    }                                                                               \
  } while (0)

// The status has this code and its message contains the text.
#define CHECK_FAILS(expr, want, text)                                                         \
  do {                                                                                        \
    const irk::Status s_ = (expr);                                                            \
    g_checks++;                                                                               \
    if (s_.code != (want) || !strstr(s_.msg, text)) {                                         \
      g_failed++;                                                                             \
      fprintf(stderr, "%s:%d: %s: code %d, '%s'; expected '%s'\n", __FILE__, __LINE__, #expr, \
              static_cast<int>(s_.code), s_.msg, text);                                       \
    }                                                                                         \
  } while (0)

inline int report(const char* name) {
  printf("%s: %d checks, %d failed\n", name, g_checks, g_failed);
  return g_failed ? 1 : 0;
}
