// The command line of irkit-run.
#pragma once

namespace tool {

// What the process returns. Documented in --help and the README; scripts rely on it.
enum Exit { kDone = 0, kUsage = 2, kModel = 3, kInput = 4, kOutput = 5, kRun = 6 };

// Texts given for one option, in order.
struct List {
  const char** at;
  int n;
};

struct Arguments {
  const char *model = nullptr, *isa = nullptr;
  int threads = 0;              // 0: not given
  int repeat = 0, warmup = -1;  // calls; 0 and -1: not given
  bool describe = false, benchmark = false, profile = false;
  List inputs = {nullptr, 0}, outputs = {nullptr, 0};
};

// True when the program should go on; else *exit_code is set and what there is to say has been said.
bool parse(int argc, char** argv, Arguments* out, int* exit_code);

}  // namespace tool
