/* Runs a model on files and prints its answer.
 *
 *   example MODEL.irk INPUT... [--expect OUTPUT...]
 *
 * Inputs are .npy files or raw values, row-major, as the model takes them. --expect compares the outputs with files,
 * bit for bit. All of irkit's interface is in runtime/include/irkit.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "irkit.h"

#define MAX_PORTS 64
#define SHOWN 5

/* By irk_dtype: names, and how NumPy's files call them (little-endian; '|' where a value is one byte). */
static const char* const kName[] = {"f32", "f64", "i8", "u8", "i16", "i32", "i64", "bool"};
static const char* const kNumpy[] = {"'<f4'", "'<f8'", "'|i1'", "'|u1'", "'<i2'", "'<i4'", "'<i8'", "'|b1'"};

static int fail(const char* what, const char* why) {
  fprintf(stderr, "example: %s: %s\n", what, why);
  return 1;
}

/* All bytes of a file, to be freed; NULL when it can't be read. */
static unsigned char* read_file(const char* path, size_t* size) {
  FILE* f = fopen(path, "rb");
  unsigned char* data = NULL;
  long end;
  if (!f) return NULL;
  if (fseek(f, 0, SEEK_END) == 0 && (end = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0) {
    *size = (size_t)end;
    data = malloc(*size + 1); /* a file may be empty */
    if (data && fread(data, 1, *size, f) != *size) {
      free(data);
      data = NULL;
    }
  }
  fclose(f);
  return data;
}

/* Where the values of an .npy file begin (0 for raw values); -1 when they are not the tensor's. */
static long values_at(const unsigned char* data, size_t size, const irk_tensor* t) {
  size_t start, length;
  char* header;
  int fits;
  if (size < 12 || memcmp(data, "\x93NUMPY", 6) != 0) return 0;
  if (data[6] == 1) {
    start = 10;
    length = data[8] | (size_t)data[9] << 8;
  } else {
    start = 12;
    length = data[8] | (size_t)data[9] << 8 | (size_t)data[10] << 16 | (size_t)data[11] << 24;
  }
  if (length > size - start || !(header = malloc(length + 1))) return -1;
  memcpy(header, data + start, length);
  header[length] = 0;
  fits = strstr(header, kNumpy[t->dtype]) && strstr(header, "'fortran_order': False");
  free(header);
  return fits ? (long)(start + length) : -1;
}

/* The values of one input or output from a file, to be freed with *file; NULL, with a message, when they don't fit. */
static const void* load(const char* path, const irk_tensor* t, unsigned char** file) {
  size_t size;
  long at;
  *file = read_file(path, &size);
  if (!*file) {
    fail(path, "can't be read");
    return NULL;
  }
  at = values_at(*file, size, t);
  if (at >= 0 && size - (size_t)at == t->bytes) return *file + at;
  fprintf(stderr, "example: %s: expected %s, %lu bytes of values, for '%s'\n", path, kName[t->dtype],
          (unsigned long)t->bytes, t->name);
  return NULL;
}

/* Element i as a number: what a quantized value stands for. */
static double value(const irk_tensor* t, const void* data, size_t i) {
  double v = 0;
  switch (t->dtype) {
    case IRK_F32: v = ((const float*)data)[i]; break;
    case IRK_F64: v = ((const double*)data)[i]; break;
    case IRK_I8: v = ((const int8_t*)data)[i]; break;
    case IRK_U8: v = ((const uint8_t*)data)[i]; break;
    case IRK_I16: v = ((const int16_t*)data)[i]; break;
    case IRK_I32: v = ((const int32_t*)data)[i]; break;
    case IRK_I64: v = (double)((const int64_t*)data)[i]; break;
    case IRK_BOOL: v = ((const uint8_t*)data)[i]; break;
  }
  return t->scale > 0 ? t->scale * (v - t->zero) : v;
}

static void print_type(const char* kind, const irk_tensor* t) {
  int d;
  printf("%s %s: %s[", kind, t->name, kName[t->dtype]);
  for (d = 0; d < t->rank; d++) printf(d ? ",%ld" : "%ld", (long)t->dims[d]);
  printf("]\n");
}

/* The highest values of an output and where they are, the highest first; of equal ones the first. */
static void print_top(const irk_tensor* t, const void* data) {
  size_t top[SHOWN], i, n = 1;
  int d, j, shown = 0;
  for (d = 0; d < t->rank; d++) n *= (size_t)t->dims[d];
  for (i = 0; i < n; i++) {
    if (shown == SHOWN && value(t, data, i) <= value(t, data, top[SHOWN - 1])) continue;
    j = shown < SHOWN ? shown++ : SHOWN - 1;
    for (; j > 0 && value(t, data, i) > value(t, data, top[j - 1]); j--) top[j] = top[j - 1];
    top[j] = i;
  }
  for (j = 0; j < shown; j++) printf("  %lu: %.9g\n", (unsigned long)top[j], value(t, data, top[j]));
}

/* 0 when an output has the bits of a file. */
static int compare(const char* path, const irk_tensor* t, const void* got) {
  unsigned char* file;
  const void* want = load(path, t, &file);
  const int differ = !want || memcmp(want, got, t->bytes) != 0;
  if (want && differ) fail(path, "the output is different");
  if (!differ) printf("  the bits of %s\n", path);
  free(file);
  return differ;
}

static int run(irk_model* m, char** inputs, int n_inputs, char** expected, int n_expected) {
  static unsigned char* files[MAX_PORTS];
  static const void* in[MAX_PORTS];
  static void* out[MAX_PORTS];
  static size_t in_bytes[MAX_PORTS], out_bytes[MAX_PORTS];
  const int n_in = irk_input_count(m), n_out = irk_output_count(m);
  irk_error err;
  irk_tensor t;
  int i, bad = 0;
  if (n_in > MAX_PORTS || n_out > MAX_PORTS) return fail("model", "more inputs or outputs than this example takes");
  if (n_inputs != n_in || (n_expected && n_expected != n_out)) {
    fprintf(stderr, "example: the model has %d input(s) and %d output(s)\n", n_in, n_out);
    return 1;
  }
  for (i = 0; i < n_in; i++) {
    if (irk_input(m, i, &t, &err)) return fail("input", err.message);
    print_type("input", &t);
    in[i] = load(inputs[i], &t, &files[i]);
    if (!in[i]) return 1;
    in_bytes[i] = t.bytes;
  }
  for (i = 0; i < n_out; i++) {
    if (irk_output(m, i, &t, &err)) return fail("output", err.message);
    out[i] = malloc(t.bytes ? t.bytes : 1);
    if (!out[i]) return fail("output", "out of memory");
    out_bytes[i] = t.bytes;
  }

  if (irk_run(m, in, in_bytes, n_in, out, out_bytes, n_out, &err)) return fail("run", err.message);

  for (i = 0; i < n_out; i++) {
    if (irk_output(m, i, &t, &err)) return fail("output", err.message);
    print_type("output", &t);
    print_top(&t, out[i]);
    if (n_expected) bad |= compare(expected[i], &t, out[i]);
    free(out[i]);
  }
  for (i = 0; i < n_in; i++) free(files[i]);
  return bad;
}

int main(int argc, char** argv) {
  irk_model* m;
  irk_error err;
  int code, split = 2;
  while (split < argc && strcmp(argv[split], "--expect") != 0) split++;
  if (argc < 2 || split + 1 == argc) {
    fputs("usage: example MODEL.irk INPUT... [--expect OUTPUT...]\n", stderr);
    return 2;
  }
  if (irk_load_file(argv[1], NULL, &m, &err)) return fail(argv[1], err.message);
  printf("%s: %s kernels, %d thread(s)\n", argv[1], irk_isa(m), irk_threads(m));
  code = run(m, argv + 2, split - 2, argv + split + 1, argc > split ? argc - split - 1 : 0);
  irk_free(m);
  return code;
}
