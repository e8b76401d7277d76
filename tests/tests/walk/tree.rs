//! From the outside: starts the process that walks with a seed, and sees to it that the whole tree comes to an end.
#![allow(unsafe_code, reason = "waitid and kill are libc functions")]

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide_tests::patience::patient;
use libtest_mimic::Failed;

use crate::fault;

/// Tells a process that it is the root of a tree, and with which seed.
pub(crate) const TREE: &str = "EBBTIDE_WALK_TREE";

/// An operation takes far less on average; hangs are the watchdogs' business.
const LONGEST: Duration = Duration::from_secs(120);
const LONGEST_OPERATION: Duration = Duration::from_millis(20);

/// Walks with `seed`, to the end.
pub(crate) fn walk(seed: u64, operations: u32, nocapture: bool) -> Result<(), Failed> {
    run(seed, operations, nocapture, "")?.map_err(|said| {
        let (seeds, count) = (crate::SEED, crate::OPERATIONS);
        let again = format!("{seeds}={seed} {count}={operations} cargo test -p ebbtide-tests --test walk");
        format!("{said}to walk the same way again, as far as threads do: {again}").into()
    })
}

/// Walks where something happens that must be found. The tree has to fail and to say what `expected` lists.
pub(crate) fn find(fault: &str, expected: &[&str]) -> Result<(), Failed> {
    const OPERATIONS: u32 = 2000;
    let Err(said) = run(1, OPERATIONS, false, fault)? else { return Err("nothing was found".into()) };
    match expected.iter().find(|expected| !said.contains(**expected)) {
        None => Ok(()),
        Some(missing) => Err(format!("{missing:?} is missing in what was said:\n{said}").into()),
    }
}

/// Starts the tree and waits for its end. `Err` is what it said, if it did not end well.
fn run(seed: u64, operations: u32, nocapture: bool, fault: &str) -> std::io::Result<Result<(), String>> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env(TREE, seed.to_string())
        .env(crate::OPERATIONS, operations.to_string())
        .env(fault::FAULT, fault);
    for variable in ["EBBTIDE_POLICY", "EBBTIDE_TRACE", "EBBTIDE_MEMORY_LIMIT"] {
        command.env_remove(variable);
    }
    // A group of its own, so that what is left of a tree can be ended.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(if nocapture { Stdio::inherit() } else { Stdio::piped() });
    let mut root = command.spawn()?;
    let stderr = root.stderr.take();
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_end(&mut said);
        }
        String::from_utf8_lossy(&said).into_owned()
    });
    let in_time = wait_for(&root, patient(LONGEST + LONGEST_OPERATION * operations))?;
    end_group(&root);
    let status = root.wait()?;
    let said = reader.join().unwrap_or_default();
    if in_time && status.success() {
        return Ok(Ok(()));
    }
    let how = if in_time { status.to_string() } else { "it did not end in time".to_owned() };
    Ok(Err(format!("{how}\n{said}")))
}

/// Waits for the end of a process, which stays there to be waited for. False if it takes too long.
fn wait_for(root: &Child, longest: Duration) -> std::io::Result<bool> {
    let started = Instant::now();
    while started.elapsed() < longest {
        // SAFETY: all zeros is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { MaybeUninit::zeroed().assume_init() };
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: `info` is valid for writes.
        let result = unsafe { libc::waitid(libc::P_PID, root.id(), &raw mut info, options) };
        if result != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: waitid has filled it, with zeros if nothing has ended.
        if unsafe { info.si_pid() } != 0 {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

/// Ends whatever is left of the tree. The root was not waited for, so the group is still its own.
fn end_group(root: &Child) {
    // SAFETY: the root is the leader of its group, and still has its number.
    unsafe { libc::kill(-(root.id() as i32), libc::SIGKILL) };
}
