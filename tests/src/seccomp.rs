//! Filters on system calls, for trials of what a process does that has locked itself in.
//!
//! A filter cannot be taken off again, and it holds for all threads and for children: install one in a process that
//! runs nothing but the trial.
#![allow(unsafe_code, reason = "prctl and seccomp are system calls")]

use std::ffi::{c_long, c_void};
use std::io;

/// What becomes of a forbidden call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The process dies by SIGSYS.
    Kill,
    /// The call fails with this errno.
    Refuse(i32),
    /// One line on stderr names the call, then the process dies by SIGSYS. As [`Kill`](Self::Kill), unless the call is
    /// made while that signal is blocked.
    NameAndKill,
}

/// The offsets of `struct seccomp_data` that the filter reads: the number of the call, and the architecture.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// Every call that finds or opens a file by its name, and those that make sockets.
#[must_use]
pub fn opening_calls() -> Vec<c_long> {
    let everywhere = [
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_readlinkat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_faccessat,
        libc::SYS_socket,
        libc::SYS_connect,
    ];
    #[cfg(target_arch = "x86_64")]
    let older = [libc::SYS_open, libc::SYS_readlink, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access];
    #[cfg(not(target_arch = "x86_64"))]
    let older = [];
    everywhere.into_iter().chain(older).collect()
}

/// Forbids `calls` to all threads of this process, for good.
///
/// # Errors
/// The kernel has no seccomp, or refuses filters to this process.
///
/// # Panics
/// If more calls are named than a filter can tell apart (some 200).
pub fn forbid(calls: &[c_long], answer: Answer) -> io::Result<()> {
    let verdict = match answer {
        Answer::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        Answer::Refuse(errno) => libc::SECCOMP_RET_ERRNO | errno.unsigned_abs() & libc::SECCOMP_RET_DATA,
        Answer::NameAndKill => {
            crate::signal::handle(libc::SIGSYS, name_the_call);
            libc::SECCOMP_RET_TRAP
        }
    };
    let mut program = program(calls, verdict);
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("a short program"),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the call takes numbers alone.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `filter` names a live program, which the kernel checks and copies.
    let refused = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const filter,
        )
    };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `verdict` for `calls`, and leave for all others.
fn program(calls: &[c_long], verdict: u32) -> Vec<libc::sock_filter> {
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    let equals = |value, yes, no| statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, yes, no);
    let end = |value| statement(libc::BPF_RET | libc::BPF_K, value, 0, 0);
    let count = u8::try_from(calls.len()).expect("jumps reach 255 instructions");
    let mut program =
        vec![load(ARCHITECTURE), equals(NATIVE, 1, 0), end(libc::SECCOMP_RET_ALLOW), load(NUMBER)];
    for (call, ahead) in calls.iter().zip((1..=count).rev()) {
        // Over the rest of the comparisons and over the leave.
        program.push(equals(u32::try_from(*call).expect("a number of a call"), ahead, 0));
    }
    program.extend([end(libc::SECCOMP_RET_ALLOW), end(verdict)]);
    program
}

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).expect("an operation"), jt, jf, k }
}

extern "C" fn name_the_call(_: i32, info: *mut libc::siginfo_t, _: *mut c_void) {
    // Behind the three numbers of every siginfo, at the alignment of a pointer, lies the address of the call, then its
    // number.
    // SAFETY: the kernel passes a siginfo of SIGSYS, which holds these fields and is 128 bytes long.
    let number = unsafe { info.cast::<i32>().add(6).read() };
    let mut text = *b"forbidden call      \n";
    let mut rest = number.unsigned_abs();
    for digit in text[15..20].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    // SAFETY: the text is live and as long as said; signal and kill take numbers.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        libc::signal(libc::SIGSYS, libc::SIG_DFL);
        libc::kill(libc::getpid(), libc::SIGSYS);
        libc::_exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says to a call.
    fn verdict(program: &[libc::sock_filter], architecture: u32, number: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match u32::from(step.code) & 7 {
                libc::BPF_LD => value = if step.k == NUMBER { number } else { architecture },
                libc::BPF_RET => return step.k,
                _ => at += usize::from(if value == step.k { step.jt } else { step.jf }),
            }
        }
    }

    #[test]
    fn only_the_named_calls_are_forbidden() {
        let calls = opening_calls();
        let program = program(&calls, 7);
        for number in 0..500 {
            let named = calls.contains(&c_long::from(number));
            let expected = if named { 7 } else { libc::SECCOMP_RET_ALLOW };
            assert_eq!(verdict(&program, NATIVE, number), expected, "{number}");
        }
        assert_eq!(
            verdict(&program, 3, calls[0] as u32),
            libc::SECCOMP_RET_ALLOW,
            "numbers of another table"
        );
    }
}
