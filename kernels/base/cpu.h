// What this CPU can run, and the cap from the environment.
#pragma once
#include "base/status.h"
#include "base/types.h"

namespace irk {

const char* isa_name(Isa isa);

// Highest level of this CPU that the operating system lets us use. Detected once.
Isa cpu_isa();

// Level by name ("scalar", "avx2", ...); Code::bad_input for an unknown name or one of another architecture.
Status parse_isa(const char* name, Isa* out);

// The level to run at: cpu_isa() capped by `cap` (null or "": IRKIT_ISA from the environment, if set). A cap above what
// the CPU has changes nothing.
Status effective_isa(const char* cap, Isa* out);

// All levels this CPU runs, lowest first; returns how many (at most 8).
int cpu_isas(Isa out[8]);

// Threads to use when none are asked for: IRKIT_THREADS (Code::bad_input when it is neither empty nor an integer from 1
// to kMaxThreads), else the CPUs this process may run on.
Status default_threads(int* out);

}  // namespace irk
