#!/bin/sh
# Mutated artifacts of every kernel family, under AddressSanitizer and UndefinedBehaviorSanitizer.
#   tests/fuzz/run.sh [runs] [seed]       PYTHON names the interpreter that has irkit's dependencies
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
runs=${1:-200000}
seed=${2:-1}
cmake -S "$root/kernels" -B "$root/build/fuzz" -DIRKIT_TESTS=ON -DIRKIT_SANITIZE=address,undefined \
  -DIRKIT_OPT=-O1 >/dev/null
cmake --build "$root/build/fuzz" --parallel --target mutate_test >/dev/null
cd "$root" && "${PYTHON:-python3}" -m tests.fuzz.seeds build/seeds
exec build/fuzz/mutate_test "$runs" "$seed" build/seeds/*.irk
