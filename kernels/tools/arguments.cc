#include "tools/arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "irkit.h"

namespace tool {
namespace {

const char kHelp[] =
    "usage: irkit-run MODEL.irk --input FILE ... --output FILE ... [options]\n"
    "       irkit-run MODEL.irk --describe | --benchmark | --profile [options]\n"
    "\n"
    "Runs an artifact of irkit, without Python.\n"
    "\n"
    "  -i, --input FILE      one per input, in order, or NAME=FILE; .npy (checked) or .bin (raw, row-major)\n"
    "  -o, --output FILE     one per output, in order, or NAME=FILE; .npy or .bin; replaced in one step\n"
    "  -t, --threads N       threads of a call, 1 to 256; default: IRKIT_THREADS, else all CPUs\n"
    "      --isa LEVEL       highest instruction set level to use; default: IRKIT_ISA, else the best\n"
    "      --describe        inputs, outputs, memory, and the kernel of every step\n"
    "      --benchmark       time of a call: median, 10th and 90th percentile, least; peak memory\n"
    "      --profile         time of every step\n"
    "      --repeat N        timed calls of --benchmark and --profile; default: about a second's worth\n"
    "      --warmup N        calls before them; default: about a quarter of a second's worth\n"
    "      --version         version, and the levels that this CPU has\n"
    "  -h, --help            this text\n"
    "\n"
    "Without --input, --benchmark and --profile take random values (integers of 32 and 64 bits: zeros).\n"
    "\n"
    "Exit status: 0 done, 2 wrong usage, 3 the model can't be loaded, 4 wrong input, 5 an output can't be written,\n"
    "6 the run failed. Messages go to standard error.\n";

bool wrong(int* exit_code, const char* what, const char* arg) {
  fprintf(stderr, "irkit-run: %s '%s'; --help shows the usage\n", what, arg);
  *exit_code = kUsage;
  return false;
}

bool number(const char* text, int least, int most, int* out) {
  char* end;
  errno = 0;
  const long v = strtol(text, &end, 10);
  if (end == text || *end || errno || v < least || v > most) return false;
  *out = static_cast<int>(v);
  return true;
}

void show_version() {
  printf("irkit-run %s; this CPU has", irk_version());
  for (int i = 0; irk_cpu_isa(i); i++) printf(" %s", irk_cpu_isa(i));
  puts("");
}

// The next option's value: what follows '=' in `arg`, else the next argument; null when there is none.
const char* value_of(const char* arg, int argc, char** argv, int* i) {
  const char* equals = arg[1] == '-' ? strchr(arg, '=') : nullptr;
  if (equals) return equals + 1;
  return *i + 1 < argc ? argv[++*i] : nullptr;
}

// Is `arg` the option of that name, alone or followed by '='?
bool is(const char* arg, const char* name, const char* shorter = nullptr) {
  const size_t n = strlen(name);
  return (strncmp(arg, name, n) == 0 && (!arg[n] || arg[n] == '=')) || (shorter && strcmp(arg, shorter) == 0);
}

}  // namespace

bool parse(int argc, char** argv, Arguments* out, int* exit_code) {
  Arguments& a = *out;
  *exit_code = kDone;
  const size_t room = static_cast<size_t>(argc) * sizeof(char*);
  a.inputs.at = static_cast<const char**>(malloc(room));
  a.outputs.at = static_cast<const char**>(malloc(room));
  if (!a.inputs.at || !a.outputs.at) {
    fputs("irkit-run: out of memory\n", stderr);
    *exit_code = kRun;
    return false;
  }
  bool only_paths = false;
  for (int i = 1; i < argc; i++) {
    const char* arg = argv[i];
    if (only_paths || arg[0] != '-') {
      if (a.model) return wrong(exit_code, "more than one model: unexpected argument", arg);
      a.model = arg;
    } else if (strcmp(arg, "--") == 0) {
      only_paths = true;
    } else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
      fputs(kHelp, stdout);
      return false;
    } else if (strcmp(arg, "--version") == 0) {
      show_version();
      return false;
    } else if (strcmp(arg, "--describe") == 0) {
      a.describe = true;
    } else if (strcmp(arg, "--benchmark") == 0) {
      a.benchmark = true;
    } else if (strcmp(arg, "--profile") == 0) {
      a.profile = true;
    } else {
      const bool input = is(arg, "--input", "-i"), output = is(arg, "--output", "-o"), isa = is(arg, "--isa");
      const bool threads = is(arg, "--threads", "-t"), repeat = is(arg, "--repeat"), warmup = is(arg, "--warmup");
      if (!(input || output || isa || threads || repeat || warmup)) return wrong(exit_code, "unknown option", arg);
      const char* value = value_of(arg, argc, argv, &i);
      if (!value) return wrong(exit_code, "a value is missing after", arg);
      if (input) a.inputs.at[a.inputs.n++] = value;
      if (output) a.outputs.at[a.outputs.n++] = value;
      if (isa) a.isa = value;
      if (threads && !number(value, 1, 256, &a.threads))
        return wrong(exit_code, "--threads: expected an integer from 1 to 256, got", value);
      if (repeat && !number(value, 1, 1000000, &a.repeat))
        return wrong(exit_code, "--repeat: expected an integer from 1 to 1000000, got", value);
      if (warmup && !number(value, 0, 1000000, &a.warmup))
        return wrong(exit_code, "--warmup: expected an integer from 0 to 1000000, got", value);
    }
  }
  if (!a.model) {
    fputs("irkit-run: no model given; --help shows the usage\n", stderr);
    *exit_code = kUsage;
    return false;
  }
  if (!a.outputs.n && !a.describe && !a.benchmark && !a.profile)
    return wrong(exit_code, "nothing to do: give --output, --describe, --benchmark or --profile for", a.model);
  return true;
}

}  // namespace tool
