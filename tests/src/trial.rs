//! Trials, each in a process of its own: the parent lists them and starts a process for each; the child runs one.

use std::ffi::CStr;
use std::io::Read;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};

/// Names the trial that a process is to run.
const TRIAL: &str = "EBBTIDE_TRIAL";

/// A hung child is ended after this long. The longest takes about two seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(100);

/// How a line begins that says why a trial did nothing.
const SKIPPED: &str = "SKIPPED: ";

/// A trial by its name. It fails by panicking.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Unique in its program.
    pub name: &'static str,
    /// What the child does.
    pub run: fn(),
}

/// Runs the trial that the environment names, or all of them as libtest runs tests.
///
/// # Panics
/// In a child, if the trial fails.
#[must_use]
pub fn main(cases: &[Case]) -> ExitCode {
    let Ok(name) = std::env::var(TRIAL) else { return parent(cases) };
    let case = cases.iter().find(|case| case.name == name).expect("the parent names a trial that exists");
    (case.run)();
    ExitCode::SUCCESS
}

/// Says why a trial cannot do its work here. The parent repeats it.
pub fn skipped(why: &str) {
    eprintln!("{SKIPPED}{why}");
}

/// Whether this process runs the trial of that name. For code before `main`: allocates nothing.
#[must_use]
#[allow(unsafe_code, reason = "getenv is a libc function")]
pub fn is_trial(name: &CStr) -> bool {
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

/// Runs a command to its end, or ends it when patience does. Returns what it wrote to stderr.
///
/// # Errors
/// If the command cannot be started or waited for, or hung.
pub fn finish(mut command: Command, nocapture: bool) -> std::io::Result<(ExitStatus, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(if nocapture { Stdio::inherit() } else { Stdio::piped() });
    let mut child = command.spawn()?;
    let stderr = child.stderr.take();
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_end(&mut said);
        }
        String::from_utf8_lossy(&said).into_owned()
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the trial hung and was ended"));
        }
        thread::sleep(Duration::from_millis(5));
    };
    Ok((status, reader.join().unwrap_or_default()))
}

/// Tells threads to stop when it goes, be it by a panic: a trial that fails must end.
#[derive(Debug)]
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
