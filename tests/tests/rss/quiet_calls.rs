//! What the runtime asks of the kernel on allocations, frees and releases by policy or limit: no file is looked for,
//! opened or asked about there, so that a process may lock itself in, run out of descriptors, or close them all.
#![allow(unsafe_code, reason = "mounts, limits and descriptors are libc functions")]

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide::Policy;
use ebbtide_tests::seccomp::{self, Answer};

use crate::harness::{self, Case, MIB, at_most, skipped, start};
use crate::soft_limit::second_process;

pub(crate) const CASES: &[Case] = &[
    Case { name: "quiet_calls_under_a_percentage", run: || churn_locked_in(Policy::Percent(10), None) },
    Case { name: "quiet_calls_under_a_limit", run: || churn_locked_in(Policy::Off, Some(64 * MIB)) },
    Case {
        name: "quiet_calls_with_background",
        run: || churn_locked_in(Policy::Background { percent: 10 }, None),
    },
    Case { name: "quiet_calls_with_background_in_a_container", run: background_in_a_container },
    Case { name: "quiet_calls_of_trace_lines", run: trace_locked_in },
    Case { name: "quiet_calls_while_a_group_is_followed", run: follow_locked_in },
    Case { name: "group_limit_is_followed_in_a_container", run: follow_in_a_container },
    Case { name: "group_limit_is_followed_without_descriptors", run: follow_without_descriptors },
    Case { name: "group_limit_survives_a_program_that_closes_all", run: follow_after_closing_all },
    Case { name: "group_limit_is_followed_in_a_forked_child", run: follow_in_a_child },
];

/// Resident bytes, read without opening anything: opened before the process locks itself in.
struct Resident(File);

impl Resident {
    fn open() -> Self {
        Self(File::open("/proc/self/statm").expect("proc"))
    }

    fn now(&self) -> u64 {
        let mut text = [0; 128];
        let len = self.0.read_at(&mut text, 0).expect("an open file");
        let text = std::str::from_utf8(&text[..len]).expect("numbers");
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("two numbers") * 4096
    }
}

/// Bursts of small and large objects, and a map that grows and shrinks.
fn churn(rounds: usize) {
    let mut map = ebbtide::HashMap::new();
    for round in 0..rounds {
        let small: Vec<Vec<u8>> = (0..100_000).map(|n| vec![1; 16 + n % 500]).collect();
        let large: Vec<Vec<u8>> = (0..20).map(|_| vec![1; 1 << 20]).collect();
        assert!(small.iter().chain(&large).all(|block| block[0] == 1));
        (0..200_000).for_each(|key| {
            map.insert(key, [round; 4]);
        });
        map.retain(|key, _| key % 100 == 0);
        map.shrink_to_fit();
    }
}

/// Bytes that left though nobody asked, from the moment of the call on. Figures of the allocator may open files.
fn count_released() -> (&'static AtomicU64, ebbtide::Subscription) {
    static RELEASED: AtomicU64 = AtomicU64::new(0);
    let count = |event: &ebbtide::Event<'_>| {
        if let ebbtide::Event::Release { cause, report, .. } = event
            && *cause != ebbtide::ReleaseCause::Forced
        {
            // Relaxed, here and below: a sum.
            RELEASED.fetch_add(report.released_bytes, Ordering::Relaxed);
        }
    };
    let subscription = ebbtide::on_event(count);
    RELEASED.store(0, Ordering::Relaxed);
    (&RELEASED, subscription)
}

fn churn_locked_in(policy: Policy, limit: Option<u64>) {
    let resident = Resident::open();
    start(policy);
    if limit.is_some() {
        ebbtide::set_memory_limit(limit).expect("a limit in bytes");
    }
    if let Err(error) = seccomp::forbid(&seccomp::opening_calls(), Answer::NameAndKill) {
        return skipped(&format!("no filter: {error}"));
    }
    let (released, _subscription) = count_released();
    let at_rest = resident.now();
    churn(4);
    // Relaxed: a sum. The thread in the background has its time.
    let before = Instant::now();
    while released.load(Ordering::Relaxed) < 40 * MIB && before.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(10));
    }
    let released = released.load(Ordering::Relaxed);
    assert!(released >= 40 * MIB, "only {released} bytes left");
    at_most("resident", resident.now(), at_rest, 100 * MIB);
}

/// Lines of releases that nobody asked for say what is resident as long as that can be read without opening anything.
fn trace_locked_in() {
    const LOCKED: &str = "locked in";
    let check = |said: &str| {
        let Some((before, after)) = said.split_once(LOCKED) else {
            return assert!(said.contains("no filter"), "{said}");
        };
        let lines = |said: &str| -> Vec<String> {
            let unasked = |line: &&str| line.ends_with("(policy)") || line.ends_with("(limit)");
            said.lines().filter(unasked).map(str::to_owned).collect()
        };
        let (before, after) = (lines(before), lines(after));
        assert!(!before.is_empty() && before.iter().all(|line| line.contains(" MiB in use, rss ")), "{said}");
        assert!(!after.is_empty() && after.iter().all(|line| !line.contains("rss")), "{said}");
    };
    if second_process(&[("EBBTIDE_TRACE", "release")], check) {
        start(Policy::Percent(10));
        churn(1);
        if let Err(error) = seccomp::forbid(&seccomp::opening_calls(), Answer::NameAndKill) {
            skipped(&format!("no filter: {error}"));
        } else {
            eprintln!("{LOCKED}");
            ebbtide::set_memory_limit(Some(16 * MIB)).expect("a limit in bytes");
            churn(1);
        }
    }
}

/// The file of this process's own memory limit, in a folder that is this trial's alone: a file system in memory lies over
/// the folder of the control group, in a name space of mounts that only this process has. `None` where that is not allowed.
struct Group {
    file: File,
}

impl Group {
    fn fake(content: &str) -> Option<Self> {
        let Some((folder, name)) = own_folder() else {
            skipped("no control group of this process is mounted");
            return None;
        };
        let target = CString::new(folder.as_os_str().as_encoded_bytes()).expect("no zero");
        // SAFETY: all strings end with a 0 and live; the mounts are seen by this process alone.
        let refused = unsafe {
            libc::unshare(libc::CLONE_NEWNS) != 0
                || libc::mount(
                    ptr::null(),
                    c"/".as_ptr(),
                    ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    ptr::null(),
                ) != 0
                || libc::mount(c"none".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, ptr::null()) != 0
        };
        if refused {
            skipped(&format!("no mounts of its own: {}", std::io::Error::last_os_error()));
            return None;
        }
        let mut options = File::options();
        let file =
            options.write(true).create(true).truncate(false).open(folder.join(name)).expect("a new file");
        let group = Self { file };
        group.set(content);
        Some(group)
    }

    /// Opens nothing.
    fn set(&self, content: &str) {
        // One write, padded: no reader sees half of it. What stands behind it is blank.
        self.file.write_all_at(content.as_bytes(), 0).expect("room for it");
        self.file.set_len(content.len() as u64).expect("may be cut");
    }
}

/// Where the limit of this process's control group stands: of version 1 if that counts memory, else of version 2.
fn own_folder() -> Option<(PathBuf, &'static str)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let group = |mark: &str| groups.lines().find_map(|line| line.split_once(mark)).map(|(_, group)| group);
    let (group, kind, name) = match group(":memory:") {
        Some(group) => (group, "memory", "memory.limit_in_bytes"),
        None => (group("0::")?, " - cgroup2 ", "memory.max"),
    };
    let mount = mounts.lines().find(|line| line.contains(" - cgroup") && line.contains(kind))?;
    let mut words = mount.split(' ').skip(3);
    let (root, point) = (words.next()?, words.next()?);
    let folder = PathBuf::from(format!("{point}{}", group.strip_prefix(root.trim_end_matches('/'))?));
    folder.is_dir().then_some((folder, name))
}

/// Grows by some MiB until the limit in force is `expected`.
#[track_caller]
fn grow_until(expected: Option<u64>) {
    let mut blocks = Vec::new();
    for _ in 0..40 {
        if ebbtide::memory_limit() == expected {
            return;
        }
        thread::sleep(Duration::from_millis(60));
        blocks.push(vec![1_u8; 5 << 20]);
    }
    panic!("{:?}, expected {expected:?}", ebbtide::memory_limit());
}

/// Grows by as much as [`grow_until`] at most, to see that the limit in force stays.
#[track_caller]
fn grow_and_keep(expected: Option<u64>) {
    let blocks: Vec<_> = (0..12)
        .map(|_| {
            thread::sleep(Duration::from_millis(60));
            vec![1_u8; 5 << 20]
        })
        .collect();
    assert!(blocks.iter().all(|block| block[0] == 1));
    assert_eq!(ebbtide::memory_limit(), expected);
}

const GIB: u64 = 1 << 30;

fn follow() -> Option<Group> {
    let group = Group::fake("2147483648\n")?;
    start(Policy::Off);
    assert_eq!(ebbtide::follow_cgroup_limit(0.5), Ok(Some(GIB)));
    Some(group)
}

/// The most descriptors that this process may have from now on. Those that it has stay open.
fn limit_descriptors(most: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is live.
    let refused = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 || {
            limit.rlim_cur = most;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0
        }
    };
    assert!(!refused, "{}", std::io::Error::last_os_error());
}

/// Growth reads the limit, with nothing opened; and a call that may open, and cannot, loses nothing.
fn follow_without_descriptors() {
    let Some(group) = follow() else { return };
    limit_descriptors(1);
    ebbtide::free_os_memory();
    assert_eq!(ebbtide::memory_limit(), Some(GIB), "refused: the last one stays");
    group.set("1073741824\n");
    grow_until(Some(GIB / 2));
    group.set("what?\n");
    grow_and_keep(Some(GIB / 2));
    group.set("4294967296\n");
    grow_until(Some(2 * GIB));
    group.set("max\n");
    grow_until(None);
    limit_descriptors(64);
    group.set("1073741824\n");
    grow_until(Some(GIB / 2));
}

/// A daemon closes all descriptors, and gets their numbers for files of its own.
fn follow_after_closing_all() {
    let Some(group) = follow() else { return };
    let other = File::open("/dev/zero").expect("a device");
    let kept = [group.file.as_raw_fd(), other.as_raw_fd()];
    let taken: Vec<i32> = (3..1024)
        .filter(|number| {
            // SAFETY: numbers alone. What this trial needs is left open, and the runtime has to cope with the rest.
            !kept.contains(number) && unsafe { libc::fcntl(*number, libc::F_GETFD) } >= 0
        })
        .collect();
    assert!(!taken.is_empty(), "the runtime holds the file");
    for number in &taken {
        // SAFETY: as above.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), *number) }, *number);
    }
    group.set("1073741824\n");
    grow_and_keep(Some(GIB));
    ebbtide::free_os_memory();
    grow_until(Some(GIB / 2));
    group.set("2147483648\n");
    grow_until(Some(GIB));
    for number in &taken {
        let own = fs::read_link(format!("/proc/self/fd/{number}")).expect("still open");
        assert_eq!(own, Path::new("/dev/zero"), "descriptor {number} is the program's");
    }
}

fn follow_in_a_child() {
    let Some(group) = follow() else { return };
    // SAFETY: one thread; the child leaves by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    // The child first: both write to one file.
    // SAFETY: `status` is live.
    assert!(child == 0 || unsafe { libc::waitpid(child, &raw mut status, 0) } == child);
    assert_eq!(status, 0, "the child");
    group.set("1073741824\n");
    grow_until(Some(GIB / 2));
    ebbtide::free_os_memory();
    group.set("2147483648\n");
    grow_until(Some(GIB));
    if child == 0 {
        // SAFETY: nothing is left to do.
        unsafe { libc::_exit(0) };
    }
}

/// Runs this trial once more in a process that has a filter from its start, as in a container. True in that process, which
/// cannot tell when it gets another filter.
fn in_a_container() -> bool {
    const INSIDE: &str = "EBBTIDE_IN_A_CONTAINER";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.env(INSIDE, "1");
    // SAFETY: the closure makes system calls and allocates, which this allocator allows in the child of a fork.
    unsafe {
        command.pre_exec(|| seccomp::forbid(&[libc::SYS_acct], Answer::Refuse(libc::EPERM)));
    }
    match harness::finish(command, false) {
        Ok((status, said)) => {
            assert!(status.success(), "{status}\n{said}");
            // Whether it was skipped.
            eprint!("{said}");
        }
        Err(error) => skipped(&format!("no filter: {error}")),
    }
    false
}

/// What is called as the heap grows must do without finding or opening files.
fn follow_in_a_container() {
    if !in_a_container() {
        return;
    }
    let Some(group) = follow() else { return };
    seccomp::forbid(&seccomp::opening_calls(), Answer::NameAndKill).expect("as the first one");
    group.set("1073741824\n");
    grow_until(Some(GIB / 2));
    group.set("134217728\n");
    grow_until(Some(64 * MIB));
    churn(1);
}

fn background_in_a_container() {
    if in_a_container() {
        let group = follow();
        churn_locked_in(Policy::Background { percent: 10 }, None);
        // By now the thread would look for the group again.
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(1100));
            churn(1);
        }
        drop(group);
    }
}

/// Once locked in, not even files that are open are asked about.
fn follow_locked_in() {
    let Some(group) = follow() else { return };
    let calls = [seccomp::opening_calls(), vec![libc::SYS_fstat, libc::SYS_pread64]].concat();
    if let Err(error) = seccomp::forbid(&calls, Answer::NameAndKill) {
        return skipped(&format!("no filter: {error}"));
    }
    group.set("1073741824\n");
    grow_and_keep(Some(GIB));
    churn(1);
    assert_eq!(ebbtide::memory_limit(), Some(GIB), "the last known limit stays");
    ebbtide::set_memory_limit(Some(64 * MIB)).expect("a limit in bytes");
    churn(1);
}
