#include "tools/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tools/memory.h"
#include "tools/npy.h"

namespace tool {
namespace {

using irk::now_ns;
constexpr int64_t kWarmupNs = 250000000, kTimedNs = 1000000000;
constexpr int kLeast = 10, kMost = 1000000;

double ms(int64_t ns) { return static_cast<double>(ns) * 1e-6; }

irk_code out_of_memory(irk_error* err) {
  err->code = IRK_OUT_OF_MEMORY;
  snprintf(err->message, sizeof err->message, "out of memory for the times");
  return err->code;
}

irk_code call_once(const Call& c, int64_t* step_ns, irk_error* err) {
  const void* const* in = c.in;
  if (step_ns) return irk_profile(c.model, in, c.in_bytes, c.n_in, c.out, c.out_bytes, c.n_out, step_ns, err);
  return irk_run(c.model, in, c.in_bytes, c.n_in, c.out, c.out_bytes, c.n_out, err);
}

// Calls that nobody times, then in *repeat how many to time.
irk_code warm_up(const Call& c, int warmup, int* repeat, irk_error* err) {
  const int64_t start = now_ns();
  int64_t least = INT64_MAX;  // one call that the system held up must not decide
  const auto more = [&](int i) { return warmup >= 0 ? i < warmup : (i < 3 || now_ns() - start < kWarmupNs); };
  for (int i = 0; more(i) || (!*repeat && i == 0); i++) {
    const int64_t before = now_ns();
    if (call_once(c, nullptr, err)) return err->code;
    const int64_t took = now_ns() - before;
    least = took < least ? took : least;
  }
  if (*repeat) return IRK_OK;
  const int64_t n = kTimedNs / (least > 0 ? least : 1);
  *repeat = static_cast<int>(n < kLeast ? kLeast : n > kMost ? kMost : n);
  return IRK_OK;
}

const char* layer(const char* name) { return *name ? name : "-"; }

int by_value(const void* a, const void* b) {
  const int64_t x = *static_cast<const int64_t*>(a), y = *static_cast<const int64_t*>(b);
  return x < y ? -1 : x > y;
}

void show_port(const char* kind, int i, const irk_tensor& t) {
  char type[128];
  type_text(t.dtype, t.dims, t.rank, type, sizeof type);
  printf("%s %d '%s': %s, %zu bytes", kind, i, t.name, type, t.bytes);
  if (t.scale > 0) printf(", real = %.9g * (value - %d)", static_cast<double>(t.scale), t.zero);
  puts("");
}

struct Row {
  const char* name;
  const char* kernel;
  int64_t ns;
  int steps;
};

int slowest_first(const void* a, const void* b) {
  const Row *x = static_cast<const Row*>(a), *y = static_cast<const Row*>(b);
  return x->ns != y->ns ? (x->ns > y->ns ? -1 : 1) : strcmp(x->kernel, y->kernel);
}

void show_steps(const Row* rows, int n, int repeat) {
  int width = 5;
  int64_t total = 0;
  for (int i = 0; i < n; i++) {
    const int w = static_cast<int>(strlen(rows[i].kernel));
    width = w > width ? w : width;
    total += rows[i].ns;
  }
  const double all = total > 0 ? static_cast<double>(total) : 1;
  printf("%4s  %10s  %6s  %-*s  layer\n", "step", "ms", "share", width, "kernel");
  for (int i = 0; i < n; i++)
    printf("%4d  %10.4f  %5.1f%%  %-*s  %s\n", i, ms(rows[i].ns) / repeat, static_cast<double>(rows[i].ns) * 100 / all,
           width, rows[i].kernel, layer(rows[i].name));
  printf(" all  %10.4f\n", ms(total) / repeat);
}

// Adds up the rows of equal kernels, in place; the slowest kernel first.
void show_kernels(Row* rows, int n, int repeat) {
  int kinds = 0;
  double all = 0;
  for (int i = 0; i < n; i++) {
    all += static_cast<double>(rows[i].ns);
    int k = 0;
    while (k < kinds && strcmp(rows[k].kernel, rows[i].kernel) != 0) k++;
    if (k == kinds) {
      rows[kinds++] = rows[i];
      continue;
    }
    rows[k].ns += rows[i].ns;
    rows[k].steps += rows[i].steps;
  }
  qsort(rows, static_cast<size_t>(kinds), sizeof *rows, slowest_first);
  printf("\n%5s  %10s  %6s  kernel\n", "steps", "ms", "share");
  for (int i = 0; i < kinds; i++)
    printf("%5d  %10.4f  %5.1f%%  %s\n", rows[i].steps, ms(rows[i].ns) / repeat,
           static_cast<double>(rows[i].ns) * 100 / (all > 0 ? all : 1), rows[i].kernel);
}

}  // namespace

void describe(const irk_model* m, const char* path) {
  irk_error err;
  irk_tensor t;
  irk_step s;
  irk_memory use = {0, 0, 0, 0};
  irk_memory_use(m, &use, &err);
  printf("%s: %d steps, %s, %d thread%s\n", path, irk_step_count(m), irk_isa(m), irk_threads(m),
         irk_threads(m) == 1 ? "" : "s");
  for (int i = 0; i < irk_input_count(m); i++)
    if (!irk_input(m, i, &t, &err)) show_port("input", i, t);
  for (int i = 0; i < irk_output_count(m); i++)
    if (!irk_output(m, i, &t, &err)) show_port("output", i, t);
  printf("bytes: artifact %zu, prepared %zu, arena %zu, scratch %zu\n", use.artifact, use.prepared, use.arena,
         use.scratch);
  int width = 6;
  for (int i = 0; i < irk_step_count(m); i++)
    if (!irk_step_info(m, i, &s, &err) && static_cast<int>(strlen(s.kernel)) > width)
      width = static_cast<int>(strlen(s.kernel));
  printf("%4s  %-*s  layer\n", "step", width, "kernel");
  for (int i = 0; i < irk_step_count(m); i++)
    if (!irk_step_info(m, i, &s, &err)) printf("%4d  %-*s  %s\n", i, width, s.kernel, layer(s.name));
}

irk_code benchmark(const Call& c, int repeat, int warmup, irk_error* err) {
  if (warm_up(c, warmup, &repeat, err)) return err->code;
  int64_t* ns = static_cast<int64_t*>(malloc(static_cast<size_t>(repeat) * sizeof(int64_t)));
  if (!ns) return out_of_memory(err);
  irk_code code = IRK_OK;
  for (int i = 0; i < repeat && !code; i++) {
    const int64_t start = now_ns();
    code = call_once(c, nullptr, err);
    ns[i] = now_ns() - start;
  }
  const int64_t peak = peak_memory();  // of the run: what printing takes is not part of it
  if (!code) {
    qsort(ns, static_cast<size_t>(repeat), sizeof *ns, by_value);
    const auto at = [&](int64_t percent) { return ms(ns[(repeat - 1) * percent / 100]); };
    printf("%d calls, %s, %d thread%s: median %.4f ms, p10 %.4f ms, p90 %.4f ms, min %.4f ms\n", repeat,
           irk_isa(c.model), irk_threads(c.model), irk_threads(c.model) == 1 ? "" : "s", at(50), at(10), at(90), at(0));
    if (peak) printf("peak memory %lld bytes\n", static_cast<long long>(peak));
  }
  free(ns);
  return code;
}

irk_code profile(const Call& c, int repeat, int warmup, irk_error* err) {
  if (warm_up(c, warmup, &repeat, err)) return err->code;
  const int n = irk_step_count(c.model);
  const size_t count = static_cast<size_t>(n) + 1;  // a model may have no steps, calloc(0) may give null
  int64_t* ns = static_cast<int64_t*>(calloc(count, sizeof(int64_t)));
  Row* rows = static_cast<Row*>(calloc(count, sizeof(Row)));
  irk_code code = ns && rows ? IRK_OK : out_of_memory(err);
  for (int i = 0; i < repeat && !code; i++) code = call_once(c, ns, err);
  for (int i = 0; i < n && !code; i++) {
    irk_step s;
    code = irk_step_info(c.model, i, &s, err);
    rows[i] = {s.name, s.kernel, ns[i], 1};
  }
  if (!code) {
    printf("mean of %d calls, %s, %d thread%s\n", repeat, irk_isa(c.model), irk_threads(c.model),
           irk_threads(c.model) == 1 ? "" : "s");
    show_steps(rows, n, repeat);
    show_kernels(rows, n, repeat);
  }
  free(ns);
  free(rows);
  return code;
}

}  // namespace tool
