//! Vector registers keep their contents while threads and processes take turns.
//!
//! `cargo xtask test` runs this on the host and in user-mode Linux.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "registers are reached by machine code only")]

use std::arch::{asm, is_x86_feature_detected};
use std::process::Command;
use std::thread;

/// How often each thread yields the processor.
const TURNS: u64 = 3000;
const THREADS: u8 = 4;
const PROCESSES: u8 = 3;
/// Passes to a child process the values that it holds.
const SEED: &str = "REGISTERS_SEED";

/// The contents of 32 registers of 64 bytes.
#[repr(C, align(64))]
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registers([[u8; 64]; 32]);

impl Registers {
    /// No two of them have the same byte at the same place, for seeds that differ by less than eight.
    fn of(seed: u8) -> Self {
        let byte = |register: usize, at: usize| (register * 8 + at).to_le_bytes()[0] ^ seed;
        Self(std::array::from_fn(|register| std::array::from_fn(|at| byte(register, at))))
    }
}

/// Loads all registers, yields the processor, stores them, with nothing of the compiler's in between.
macro_rules! hold {
    ($values:expr, $load:literal, $store:literal, [$($number:literal)*], [$($register:literal)*]) => {{
        let values: &mut Registers = $values;
        // SAFETY: it reads and writes the 2,048 bytes at `at`, and names everything that changes.
        unsafe {
            asm!(
                $(concat!($load, $register, ", [{at} + 64 * ", $number, "]"),)*
                "2:",
                // `sched_yield`, which loses three general registers.
                "mov eax, 24",
                "syscall",
                "dec {turns}",
                "jnz 2b",
                $(concat!($store, "[{at} + 64 * ", $number, "], ", $register),)*
                at = in(reg) values.0.as_mut_ptr(),
                turns = inout(reg) TURNS => _,
                out("rax") _,
                out("rcx") _,
                out("r11") _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _,
                out("xmm20") _, out("xmm21") _, out("xmm22") _, out("xmm23") _,
                out("xmm24") _, out("xmm25") _, out("xmm26") _, out("xmm27") _,
                out("xmm28") _, out("xmm29") _, out("xmm30") _, out("xmm31") _,
            );
        }
    }};
}

/// The widest registers of this processor: the bytes of each that count, and how many there are.
fn hold(values: &mut Registers) -> (usize, usize) {
    if is_x86_feature_detected!("avx512f") {
        hold!(values, "vmovdqu64 ", "vmovdqu64 ",
            [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31],
            ["zmm0" "zmm1" "zmm2" "zmm3" "zmm4" "zmm5" "zmm6" "zmm7" "zmm8" "zmm9" "zmm10" "zmm11"
             "zmm12" "zmm13" "zmm14" "zmm15" "zmm16" "zmm17" "zmm18" "zmm19" "zmm20" "zmm21" "zmm22"
             "zmm23" "zmm24" "zmm25" "zmm26" "zmm27" "zmm28" "zmm29" "zmm30" "zmm31"]);
        (64, 32)
    } else if is_x86_feature_detected!("avx") {
        hold!(values, "vmovdqu ", "vmovdqu ",
            [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15],
            ["ymm0" "ymm1" "ymm2" "ymm3" "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10" "ymm11"
             "ymm12" "ymm13" "ymm14" "ymm15"]);
        (32, 16)
    } else {
        hold!(values, "movdqu ", "movdqu ",
            [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15],
            ["xmm0" "xmm1" "xmm2" "xmm3" "xmm4" "xmm5" "xmm6" "xmm7" "xmm8" "xmm9" "xmm10" "xmm11"
             "xmm12" "xmm13" "xmm14" "xmm15"]);
        (16, 16)
    }
}

fn check(seed: u8) {
    let expected = Registers::of(seed);
    let mut values = expected.clone();
    let (bytes, count) = hold(&mut values);
    for register in 0..count {
        let (found, expected) = (&values.0[register][..bytes], &expected.0[register][..bytes]);
        assert_eq!(found, expected, "register {register} of {count}, seed {seed}");
    }
}

fn in_threads(seeds: std::ops::Range<u8>) {
    thread::scope(|scope| {
        let threads: Vec<_> = seeds.map(|seed| scope.spawn(move || check(seed))).collect();
        for thread in threads {
            thread.join().expect("each thread finds its own values");
        }
    });
}

#[test]
fn threads_and_processes_keep_their_registers() {
    if let Ok(seed) = std::env::var(SEED) {
        let seed = seed.parse().expect("a number");
        return in_threads(seed..seed + THREADS);
    }
    let own = std::env::current_exe().expect("the path of this test");
    let processes = (1..=PROCESSES).map(|number| {
        let mut command = Command::new(&own);
        command.env(SEED, (number * 16).to_string()).spawn().expect("this test can be started")
    });
    let processes: Vec<_> = processes.collect();
    in_threads(0..THREADS);
    for mut process in processes {
        assert!(process.wait().expect("a child process").success(), "a process lost its registers");
    }
}
