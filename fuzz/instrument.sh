#!/bin/sh
# Started by cargo with the compiler and its arguments, for the crates of this workspace alone (RUSTC_WORKSPACE_WRAPPER):
# has the program count where it goes and what it compares, in the way of libFuzzer.
exec "$@" -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
