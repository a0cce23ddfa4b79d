// irkit-run: runs an artifact without Python. --help says how; the library is used through irkit.h alone.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "irkit.h"
#include "tools/arguments.h"
#include "tools/memory.h"
#include "tools/npy.h"
#include "tools/report.h"

namespace {

using tool::Arguments;
using tool::Call;

int complain(int exit_code, const char* what, const char* why) {
  if (strstr(why, what))  // an error of a file names it
    fprintf(stderr, "irkit-run: %s\n", why);
  else
    fprintf(stderr, "irkit-run: %s: %s\n", what, why);
  return exit_code;
}

typedef irk_code (*PortFn)(const irk_model*, int, irk_tensor*, irk_error*);

// The inputs or the outputs of the model, and the file given for each.
struct Ports {
  const char* kind;
  int n;
  irk_tensor* tensors;
  const char** paths;  // null: none
  void** buffers;
  size_t* bytes;
};

bool list_ports(const irk_model* m, const char* kind, int n, PortFn port, Ports* out) {
  const size_t count = static_cast<size_t>(n) + 1;  // calloc(0) may give null
  *out = {kind,
          n,
          static_cast<irk_tensor*>(calloc(count, sizeof(irk_tensor))),
          static_cast<const char**>(calloc(count, sizeof(char*))),
          static_cast<void**>(calloc(count, sizeof(void*))),
          static_cast<size_t*>(calloc(count, sizeof(size_t)))};
  if (!out->tensors || !out->paths || !out->buffers || !out->bytes) return false;
  for (int i = 0; i < n; i++) {
    if (port(m, i, &out->tensors[i], nullptr)) return false;
    out->bytes[i] = out->tensors[i].bytes;
    out->buffers[i] = malloc(out->bytes[i]);
    if (!out->buffers[i]) return false;
  }
  return true;
}

void release(Ports* p) {
  for (int i = 0; p->buffers && i < p->n; i++) free(p->buffers[i]);
  free(p->tensors);
  free(p->paths);
  free(p->buffers);
  free(p->bytes);
}

// The port that NAME=FILE names; -1 when what stands before the first '=' is no port's name.
int named_port(const Ports& p, const char* text) {
  const char* equals = strchr(text, '=');
  for (int i = 0; equals && i < p.n; i++) {
    const size_t n = strlen(p.tensors[i].name);
    if (n == static_cast<size_t>(equals - text) && memcmp(text, p.tensors[i].name, n) == 0) return i;
  }
  return -1;
}

// Files go to the ports they name, the others to the ports that are left, in order.
bool assign(const tool::List& files, Ports* p) {
  for (int named = 1; named >= 0; named--) {
    for (int i = 0; i < files.n; i++) {
      int port = named_port(*p, files.at[i]);
      if ((port >= 0) != (named == 1)) continue;
      const char* path = port >= 0 ? strchr(files.at[i], '=') + 1 : files.at[i];
      if (port < 0)
        for (port = 0; port < p->n && p->paths[port]; port++) {
        }
      if (port == p->n) {
        fprintf(stderr, "irkit-run: --%s %s: the model has %d %s(s), all of which have a file\n", p->kind, files.at[i],
                p->n, p->kind);
        return false;
      }
      if (p->paths[port]) {
        fprintf(stderr, "irkit-run: --%s %s: '%s' is given twice\n", p->kind, files.at[i], p->tensors[port].name);
        return false;
      }
      if (tool::format_of(path) == tool::Format::unknown) {
        fprintf(stderr, "irkit-run: --%s %s: the file's name ends neither in .npy nor in .bin\n", p->kind, files.at[i]);
        return false;
      }
      p->paths[port] = path;
    }
  }
  return true;
}

int read_inputs(Ports* in) {
  char message[tool::kMessage];
  for (int i = 0; i < in->n; i++) {
    const irk_tensor& t = in->tensors[i];
    if (!in->paths[i]) {
      fprintf(stderr, "irkit-run: no --input for input %d '%s' of %d\n", i, t.name, in->n);
      return tool::kUsage;
    }
    if (!tool::read_array(in->paths[i], t, in->buffers[i], message)) {
      fprintf(stderr, "irkit-run: input %d '%s': %s\n", i, t.name, message);
      return tool::kInput;
    }
  }
  return tool::kDone;
}

// Values of a moderate size; where integers may be indices, zeros.
void invent_inputs(Ports* in) {
  uint32_t state = 1;
  const auto next = [&state] { return state = state * 1664525u + 1013904223u; };
  for (int i = 0; i < in->n; i++) {
    const irk_tensor& t = in->tensors[i];
    const size_t n = t.bytes / irk_dtype_size(t.dtype);
    memset(in->buffers[i], 0, t.bytes);
    for (size_t k = 0; k < n; k++) {
      const double real = static_cast<double>(next() >> 8) * 0x1p-23 - 1;
      if (t.dtype == IRK_F32) static_cast<float*>(in->buffers[i])[k] = static_cast<float>(real);
      if (t.dtype == IRK_F64) static_cast<double*>(in->buffers[i])[k] = real;
      if (t.dtype == IRK_I8 || t.dtype == IRK_U8) static_cast<uint8_t*>(in->buffers[i])[k] = next() >> 24 & 255;
    }
  }
}

int write_outputs(const Ports& out) {
  char message[tool::kMessage];
  for (int i = 0; i < out.n; i++)
    if (out.paths[i] && !tool::write_array(out.paths[i], out.tensors[i], out.buffers[i], message)) {
      fprintf(stderr, "irkit-run: output %d '%s': %s\n", i, out.tensors[i].name, message);
      return tool::kOutput;
    }
  return tool::kDone;
}

int run(const Arguments& a, const Call& c, Ports* in, Ports* out) {
  if (!assign(a.inputs, in) || !assign(a.outputs, out)) return tool::kUsage;
  if (a.inputs.n == 0 && a.outputs.n == 0)
    invent_inputs(in);
  else if (const int code = read_inputs(in))
    return code;
  irk_error err;
  if (a.outputs.n) {
    if (irk_run(c.model, c.in, c.in_bytes, c.n_in, c.out, c.out_bytes, c.n_out, &err))
      return complain(tool::kRun, a.model, err.message);
    if (const int code = write_outputs(*out)) return code;
  }
  if (a.benchmark && tool::benchmark(c, a.repeat, a.warmup, &err)) return complain(tool::kRun, a.model, err.message);
  if (a.profile && tool::profile(c, a.repeat, a.warmup, &err)) return complain(tool::kRun, a.model, err.message);
  return tool::kDone;
}

int use(irk_model* m, const Arguments& a) {
  if (a.describe) tool::describe(m, a.model);
  if (!a.outputs.n && !a.benchmark && !a.profile) return tool::kDone;
  tool::drop_program_pages();
  Ports in = {}, out = {};
  int code = tool::kRun;
  if (!list_ports(m, "input", irk_input_count(m), irk_input, &in) ||
      !list_ports(m, "output", irk_output_count(m), irk_output, &out))
    complain(tool::kRun, a.model, "out of memory for inputs and outputs");
  else
    code = run(a, {m, in.buffers, out.buffers, in.bytes, out.bytes, in.n, out.n}, &in, &out);
  release(&in);
  release(&out);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  tool::map_program_in_pieces();
  Arguments a;
  int code = tool::kDone;
  if (tool::parse(argc, argv, &a, &code)) {
    const irk_options options = {a.isa, a.threads};
    irk_model* m = nullptr;
    irk_error err;
    if (irk_load_file(a.model, &options, &m, &err))
      code = complain(err.code == IRK_BAD_INPUT ? tool::kUsage : tool::kModel, a.model, err.message);
    else
      code = use(m, a);
    irk_free(m);
  }
  free(a.inputs.at);
  free(a.outputs.at);
  if (fflush(stdout) && code == tool::kDone) code = complain(tool::kOutput, "standard output", "can't be written");
  return code;
}
