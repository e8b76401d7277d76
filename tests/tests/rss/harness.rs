//! Parent and child: the parent lists the trials and starts a process for each; the child runs one.

use std::ffi::CStr;
use std::io::Read;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide::Policy;
use ebbtide_tests::memory::anonymous;
use ebbtide_tests::patience::patient;
use libtest_mimic::{Arguments, Failed, Trial};

/// Names the trial that a process is to run.
const TRIAL: &str = "EBBTIDE_TRIAL";

/// A hung child is ended after this long, times [`EBBTIDE_TEST_PATIENCE`](ebbtide_tests::patience). The longest takes
/// about two seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(100);

/// How a line begins that says why a trial did nothing.
const SKIPPED: &str = "SKIPPED: ";

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// A trial by its name. It fails by panicking.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(),
}

pub(crate) fn main(cases: &[Case]) -> ExitCode {
    let Ok(name) = std::env::var(TRIAL) else { return parent(cases) };
    let case = cases.iter().find(|case| case.name == name).expect("the parent names a trial that exists");
    assert!(ebbtide::is_active(), "the trials are about ebbtide");
    (case.run)();
    ExitCode::SUCCESS
}

/// Says why a trial cannot do its work here. The parent repeats it.
pub(crate) fn skipped(why: &str) {
    eprintln!("{SKIPPED}{why}");
}

/// Whether this process runs the trial of that name. For code before `main`: allocates nothing.
#[allow(unsafe_code, reason = "getenv is a libc function")]
pub(crate) fn is_trial(name: &CStr) -> bool {
    // SAFETY: the name ends with a 0, and nobody changes the environment meanwhile.
    let value = unsafe { libc::getenv(c"EBBTIDE_TRIAL".as_ptr()) };
    // SAFETY: what getenv returns ends with a 0.
    !value.is_null() && unsafe { CStr::from_ptr(value) } == name
}

fn parent(cases: &[Case]) -> ExitCode {
    let arguments = Arguments::from_args();
    let nocapture = arguments.nocapture;
    let trial = |case: &Case| {
        let name = case.name;
        Trial::test(name, move || child(name, nocapture))
    };
    libtest_mimic::run(&arguments, cases.iter().map(trial).collect()).exit_code()
}

fn child(name: &str, nocapture: bool) -> Result<(), Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env(TRIAL, name)
        .env_remove("EBBTIDE_POLICY")
        .env_remove("EBBTIDE_TRACE")
        .env_remove("EBBTIDE_MEMORY_LIMIT");
    let (status, said) = finish(command, nocapture)?;
    if status.success() {
        // A trial that could not do its work says so on a line of its own; that must not go by unseen.
        said.lines().filter(|line| line.starts_with(SKIPPED)).for_each(|line| eprintln!("{name}: {line}"));
        return Ok(());
    }
    Err(format!("{status}\n{said}").into())
}

/// Runs a command to its end, or ends it when patience does. Returns what it wrote to stderr; the error of a command that
/// was ended says it as well.
pub(crate) fn finish(mut command: Command, nocapture: bool) -> std::io::Result<(ExitStatus, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(if nocapture { Stdio::inherit() } else { Stdio::piped() });
    let mut child = command.spawn()?;
    let stderr = child.stderr.take();
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let reader = thread::spawn(move || stderr.map(|stderr| listen(stderr, &heard)));
    let text = || String::from_utf8_lossy(&said.lock().expect("the reader does not panic")).into_owned();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > patient(PATIENCE) {
            child.kill()?;
            child.wait()?;
            // The reader is not joined: children of the child may live on and keep the pipe open.
            let error = format!("the trial hung and was ended\n{}", text());
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, error));
        }
        thread::sleep(Duration::from_millis(5));
    };
    let _ = reader.join();
    Ok((status, text()))
}

/// Appends what comes to what was said, until there is no more.
fn listen(mut from: impl Read, said: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        said.lock().expect("no holder panics").extend_from_slice(&buffer[..len]);
    }
}

/// Tells threads to stop when it goes, be it by a panic: a trial that fails must end.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Sets the policy, brings everything that a trial uses into memory once, and returns the resident heap bytes to
/// compare with.
pub(crate) fn start(policy: Policy) -> u64 {
    ebbtide::set_policy(policy);
    drop(vec![1_u8; 100_000]);
    let _ = ebbtide::mem_stats();
    ebbtide::free_os_memory();
    anonymous()
}

/// A vector that can take `len` items and whose memory is resident already, so that the trial's own bookkeeping is
/// below its start line.
pub(crate) fn resident_vec<T: Default>(len: usize) -> Vec<T> {
    let mut vec = Vec::with_capacity(len);
    for _ in 0..len {
        vec.push(std::hint::black_box(T::default()));
    }
    vec
}

/// Panics with the numbers unless `left <= right + slack`.
#[track_caller]
pub(crate) fn at_most(what: &str, left: u64, right: u64, slack: u64) {
    assert!(
        left <= right + slack,
        "{what}: {left} is more than {right} by {}, allowed {slack}",
        left - right
    );
}

/// Panics with the numbers unless `left` and `right` differ by `slack` at most.
#[track_caller]
pub(crate) fn near(what: &str, left: u64, right: u64, slack: u64) {
    let apart = left.abs_diff(right);
    assert!(apart <= slack, "{what}: {left} and {right} are {apart} apart, allowed {slack}");
}
