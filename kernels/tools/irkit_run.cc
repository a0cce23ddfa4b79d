// irkit-run: runs an artifact without Python.
//
//   irkit-run model.irk in0.bin in1.bin > out.bin     raw row-major bytes of each input; all outputs, one after the
//   other irkit-run --info model.irk                        inputs, outputs and the kernel of every step irkit-run
//   --time 100 model.irk in0.bin > /dev/null
//
// --isa LEVEL caps the kernels (avx2, neon, ...), --threads N sets the threads of a call.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "irkit.h"

namespace {

constexpr int kMaxPorts = 1024;
const char* const kTypes[] = {"f32", "f64", "i8", "u8", "i16", "i32", "i64", "bool"};

struct Arguments {
  const char *isa = nullptr, *model = nullptr;
  int threads = 0, repeats = 0, n_inputs = 0;
  bool info = false;
  char** inputs = nullptr;
};

int usage() {
  fputs(
      "usage: irkit-run [--isa LEVEL] [--threads N] [--time N] model.irk [input.bin ...] > outputs.bin\n"
      "       irkit-run --info model.irk\n",
      stderr);
  return 2;
}

bool number(const char* text, int* out) {
  char* end;
  const long v = strtol(text, &end, 10);
  *out = static_cast<int>(v);
  return *text && !*end && v > 0 && v <= 1000000;
}

bool parse(int argc, char** argv, Arguments* a) {
  int i = 1;
  for (; i < argc && argv[i][0] == '-'; i++) {
    const bool value = i + 1 < argc;
    if (strcmp(argv[i], "--info") == 0)
      a->info = true;
    else if (strcmp(argv[i], "--isa") == 0 && value)
      a->isa = argv[++i];
    else if (strcmp(argv[i], "--threads") == 0 && value && number(argv[i + 1], &a->threads))
      i++;
    else if (strcmp(argv[i], "--time") == 0 && value && number(argv[i + 1], &a->repeats))
      i++;
    else
      return false;
  }
  if (i == argc) return false;
  a->model = argv[i++];
  a->inputs = argv + i;
  a->n_inputs = argc - i;
  return !a->info || a->n_inputs == 0;
}

void print_port(const char* kind, const irk_tensor& t) {
  printf("%s %s: %s[", kind, t.name, kTypes[t.dtype]);
  for (int i = 0; i < t.rank; i++) printf("%s%lld", i ? "," : "", static_cast<long long>(t.dims[i]));
  printf("], %zu bytes", t.bytes);
  if (t.scale > 0) printf(", real = %.9g * (value - %d)", static_cast<double>(t.scale), t.zero);
  puts("");
}

int info(irk_model* m) {
  irk_error err;
  irk_tensor t;
  irk_step s;
  for (int i = 0; i < irk_input_count(m); i++)
    if (!irk_input(m, i, &t, &err)) print_port("input", t);
  for (int i = 0; i < irk_output_count(m); i++)
    if (!irk_output(m, i, &t, &err)) print_port("output", t);
  for (int i = 0; i < irk_step_count(m); i++)
    if (!irk_step_info(m, i, &s, &err)) printf("step %d %s: %s\n", i, s.name, s.kernel);
  return 0;
}

int complain(const char* what, const char* why) {
  fprintf(stderr, "irkit-run: %s: %s\n", what, why);
  return 1;
}

// Exactly `bytes` bytes of a file.
void* read_input(const char* path, size_t bytes) {
  FILE* f = fopen(path, "rb");
  if (!f) {
    complain(path, "cannot be opened");
    return nullptr;
  }
  void* data = malloc(bytes + 1);
  const size_t got = data ? fread(data, 1, bytes + 1, f) : 0;
  fclose(f);
  if (data && got == bytes) return data;
  fprintf(stderr, "irkit-run: %s: the model wants %zu bytes\n", path, bytes);
  free(data);
  return nullptr;
}

double seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

int run(irk_model* m, const Arguments& a) {
  irk_error err;
  irk_tensor t;
  const int n_in = irk_input_count(m), n_out = irk_output_count(m);
  if (a.n_inputs != n_in) {
    fprintf(stderr, "irkit-run: the model has %d inputs, %d files were given\n", n_in, a.n_inputs);
    return 1;
  }
  if (n_in > kMaxPorts || n_out > kMaxPorts) return complain(a.model, "too many inputs or outputs for this tool");
  static void *in[kMaxPorts], *out[kMaxPorts];
  static size_t in_bytes[kMaxPorts], out_bytes[kMaxPorts];
  for (int i = 0; i < n_in; i++) {
    if (irk_input(m, i, &t, &err)) return complain(a.model, err.message);
    in_bytes[i] = t.bytes;
    in[i] = read_input(a.inputs[i], t.bytes);
    if (!in[i]) return 1;
  }
  for (int i = 0; i < n_out; i++) {
    if (irk_output(m, i, &t, &err)) return complain(a.model, err.message);
    out_bytes[i] = t.bytes;
    out[i] = malloc(t.bytes);
    if (!out[i]) return complain(a.model, "out of memory");
  }
  double best = 0, total = 0;
  for (int r = 0; r <= a.repeats; r++) {  // the first call is not timed
    const double start = seconds();
    if (irk_run(m, in, in_bytes, n_in, out, out_bytes, n_out, &err)) return complain(a.model, err.message);
    const double took = seconds() - start;
    if (r == 0) continue;
    total += took;
    best = r == 1 || took < best ? took : best;
  }
  if (a.repeats)
    fprintf(stderr, "%d calls, %s, %d threads: best %.3f ms, mean %.3f ms\n", a.repeats, irk_isa(m), irk_threads(m),
            best * 1e3, total / a.repeats * 1e3);
  for (int i = 0; i < n_out; i++)
    if (fwrite(out[i], 1, out_bytes[i], stdout) != out_bytes[i])
      return complain("standard output", "cannot be written");
  for (int i = 0; i < n_in; i++) free(in[i]);
  for (int i = 0; i < n_out; i++) free(out[i]);
  return fflush(stdout) ? complain("standard output", "cannot be written") : 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments a;
  if (!parse(argc, argv, &a)) return usage();
  const irk_options options = {a.isa, a.threads};
  irk_model* m = nullptr;
  irk_error err;
  if (irk_load_file(a.model, &options, &m, &err)) return complain(a.model, err.message);
  const int code = a.info ? info(m) : run(m, a);
  irk_free(m);
  return code;
}
