//! The first process of every pod: holds its namespaces, reaps its orphans, ends when told to.
//!
//! As PID 1 of a shared PID namespace it gets only signals that it waits for, so all are blocked and taken one by one.
//! No libc and no stack of its own making: a static binary of a few KB that any kernel since 2.6 runs.
#![no_std]
#![no_main]

use core::arch::asm;

/// The kernel's signal set: 64 bits, signal 1 the lowest (signal(7)).
type SignalSet = u64;

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;

/// System call numbers (`asm/unistd_64.h`, `asm-generic/unistd.h`).
#[cfg(target_arch = "x86_64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const WAIT4: usize = 61;
    pub const EXIT_GROUP: usize = 231;
    pub const RT_SIGTIMEDWAIT: usize = 128;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 135;
    pub const WAIT4: usize = 260;
    pub const EXIT_GROUP: usize = 94;
    pub const RT_SIGTIMEDWAIT: usize = 137;
}

/// SAFETY: the caller passes what the system call of that number takes.
#[cfg(target_arch = "x86_64")]
unsafe fn system_call(number: usize, arguments: [usize; 4]) -> isize {
    let result;
    let [a, b, c, d] = arguments;
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// SAFETY: the caller passes what the system call of that number takes.
#[cfg(target_arch = "aarch64")]
unsafe fn system_call(number: usize, arguments: [usize; 4]) -> isize {
    let result;
    let [a, b, c, d] = arguments;
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d,
            options(nostack));
    }
    result
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: takes a number and does not return.
        unsafe { system_call(number::EXIT_GROUP, [code, 0, 0, 0]) };
    }
}

/// Takes every child that has ended; a signal may stand for several of them.
fn reap() {
    // SAFETY: status and usage may be null (wait4(2)).
    while unsafe { system_call(number::WAIT4, [usize::MAX, 0, WNOHANG, 0]) } > 0 {}
}

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let all: SignalSet = !0;
    let set = [&raw const all as usize, size_of::<SignalSet>()];
    // SAFETY: a set of the size given, which outlives the call; the old set is not asked for.
    if unsafe { system_call(number::RT_SIGPROCMASK, [SIG_BLOCK, set[0], 0, set[1]]) } < 0 {
        exit(1);
    }
    // Children that ended before the mask was set.
    reap();
    loop {
        // SAFETY: as above; neither details nor a timeout are asked for.
        match unsafe { system_call(number::RT_SIGTIMEDWAIT, [set[0], 0, 0, set[1]]) } {
            SIGINT | SIGTERM => exit(0),
            SIGCHLD => reap(),
            _ => {}
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    exit(2)
}
