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

/// Offsets in `struct seccomp_data`: the number of the call, the architecture, and the first of six arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
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
/// If more calls are named than a filter has room for.
pub fn forbid(calls: &[c_long], answer: Answer) -> io::Result<()> {
    let mut filter = Filter::new(answer);
    calls.iter().for_each(|call| filter.forbid(*call));
    filter.install_for_all_threads()
}

/// A filter that allows every call that is not forbidden. Allocates nothing: it may be built between fork and exec.
#[derive(Clone)]
pub struct Filter {
    answer: Answer,
    /// The first `len` are the program. All others, of which there is at least one, are [`ALLOW`]: the program ends by
    /// falling through to it.
    program: [libc::sock_filter; ROOM],
    len: usize,
}

/// Instructions that a filter has room for: two for each call, and some.
const ROOM: usize = 128;
const ALLOW: libc::sock_filter = end(libc::SECCOMP_RET_ALLOW);

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("answer", &self.answer).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Filter {
    /// Forbids nothing yet. `answer` is what becomes of calls that will be.
    #[must_use]
    pub fn new(answer: Answer) -> Self {
        let mut filter = Self { answer, program: [ALLOW; ROOM], len: 0 };
        filter.add([load(ARCHITECTURE), equals(NATIVE, 1, 0), ALLOW, load(NUMBER)]);
        filter
    }

    /// Forbids a call.
    ///
    /// # Panics
    /// If there is no room left.
    pub fn forbid(&mut self, call: c_long) {
        self.add([equals(number(call), 0, 1), self.verdict()]);
    }

    /// Forbids a call unless the lower half of its argument at `index` is `value`.
    ///
    /// # Panics
    /// If there is no room left.
    pub fn forbid_unless(&mut self, call: c_long, index: u32, value: u32) {
        // The lower half comes first: both architectures are little-endian.
        let argument = load(ARGUMENTS + 8 * index);
        self.add([equals(number(call), 0, 4), argument, equals(value, 0, 1), ALLOW, self.verdict()]);
    }

    fn verdict(&self) -> libc::sock_filter {
        end(match self.answer {
            Answer::Kill => libc::SECCOMP_RET_KILL_PROCESS,
            Answer::Refuse(errno) => libc::SECCOMP_RET_ERRNO | errno.unsigned_abs() & libc::SECCOMP_RET_DATA,
            Answer::NameAndKill => libc::SECCOMP_RET_TRAP,
        })
    }

    fn add<const N: usize>(&mut self, instructions: [libc::sock_filter; N]) {
        assert!(self.len + N < ROOM, "the filter has no room");
        self.program[self.len..self.len + N].copy_from_slice(&instructions);
        self.len += N;
    }

    /// The program, with the allowance that ends it.
    fn program(&self) -> &[libc::sock_filter] {
        &self.program[..=self.len]
    }

    /// Installs the filter for the calling thread, and for the threads and processes that it makes from now on.
    ///
    /// # Errors
    /// The kernel has no seccomp, or refuses filters to this thread.
    pub fn install_for_this_thread(&self) -> io::Result<()> {
        self.install(0)
    }

    /// Installs the filter for all threads of this process.
    ///
    /// # Errors
    /// The kernel has no seccomp, or refuses filters to this process.
    pub fn install_for_all_threads(&self) -> io::Result<()> {
        self.install(libc::SECCOMP_FILTER_FLAG_TSYNC)
    }

    fn install(&self, flags: libc::c_ulong) -> io::Result<()> {
        if self.answer == Answer::NameAndKill {
            crate::signal::handle(libc::SIGSYS, name_the_call);
        }
        let program = self.program();
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: the call takes numbers alone.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `filter` names a live program, which the kernel checks and copies, and does not write to.
        let refused = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter)
        };
        if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

const fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

/// Skips `yes` instructions if what was loaded is `value`, else `no`.
const fn equals(value: u32, yes: u8, no: u8) -> libc::sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, yes, no)
}

const fn end(verdict: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, verdict, 0, 0)
}

const fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn number(call: c_long) -> u32 {
    u32::try_from(call).expect("a number of a call")
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

    const VERDICT: u32 = libc::SECCOMP_RET_ERRNO | 7;

    /// What the filter says to a call of this architecture's table whose arguments are all `argument`.
    fn verdict(filter: &Filter, architecture: u32, number: u32, argument: u32) -> u32 {
        let program = filter.program();
        let (mut at, mut value) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match u32::from(step.code) & 7 {
                libc::BPF_LD => {
                    value = match step.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        _ => argument,
                    }
                }
                libc::BPF_RET => return step.k,
                _ => at += usize::from(if value == step.k { step.jt } else { step.jf }),
            }
        }
    }

    #[test]
    fn only_the_named_calls_are_forbidden() {
        let calls = opening_calls();
        let mut filter = Filter::new(Answer::Refuse(7));
        calls.iter().for_each(|call| filter.forbid(*call));
        for number in 0..500 {
            let named = calls.contains(&c_long::from(number));
            let expected = if named { VERDICT } else { libc::SECCOMP_RET_ALLOW };
            assert_eq!(verdict(&filter, NATIVE, number, 0), expected, "{number}");
        }
        let foreign = verdict(&filter, 3, calls[0] as u32, 0);
        assert_eq!(foreign, libc::SECCOMP_RET_ALLOW, "numbers of another table");
    }

    #[test]
    fn one_value_of_an_argument_may_be_spared() {
        let mut filter = Filter::new(Answer::Refuse(7));
        filter.forbid(10);
        filter.forbid_unless(20, 2, 4);
        filter.forbid(30);
        for number in 0..50 {
            for argument in [0, 4, 10, 20, 30] {
                let forbidden = matches!((number, argument), (10 | 30, _)) || (number == 20 && argument != 4);
                let expected = if forbidden { VERDICT } else { libc::SECCOMP_RET_ALLOW };
                assert_eq!(verdict(&filter, NATIVE, number, argument), expected, "{number} of {argument}");
            }
        }
    }
}
