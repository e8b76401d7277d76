//! Seccomp filters that refuse calls, or kill for them: from the start of the process, or coming later.
//!
//! Each trial starts a process for each call that is forbidden, and one for all of them, which also has a policy and a
//! limit at work. It must do all its work, and memory must still go back. Such a process measures itself through a file that it opened before.
#![allow(unsafe_code, reason = "what runs between fork and exec is given in an unsafe call")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ebbtide::{HashMap, Policy};
use ebbtide_tests::block::Block;
use ebbtide_tests::patience::patient;
use ebbtide_tests::seccomp::{Answer, Filter};

use crate::harness::{self, Case, MIB, at_most, resident_vec};

pub(crate) const CASES: &[Case] = &[
    Case { name: "sandbox_that_refuses_from_the_start", run: || processes(REFUSE, "start") },
    Case { name: "sandbox_that_kills_from_the_start", run: || processes(Answer::Kill, "start") },
    Case { name: "sandbox_that_refuses_later", run: || processes(REFUSE, "later") },
    Case { name: "sandbox_that_kills_later", run: || processes(Answer::Kill, "later") },
    Case { name: "sandbox_that_kills_for_the_question_later", run: told },
    Case { name: "sandbox_that_kills_for_the_question_from_the_start", run: told_at_the_start },
];

/// Tells the process of a trial what is forbidden, how, and when.
const SANDBOX: &str = "EBBTIDE_SANDBOX";

const REFUSE: Answer = Answer::Refuse(libc::EPERM);

/// Calls by name. Advice other than `MADV_DONTNEED` is forbidden by its own rule.
const FORBIDDEN: &[(&str, &[libc::c_long])] = &[
    ("process_madvise", &[libc::SYS_process_madvise]),
    ("membarrier", &[libc::SYS_membarrier]),
    ("mincore", &[libc::SYS_mincore]),
    ("mremap", &[libc::SYS_mremap]),
    ("tgkill", &[libc::SYS_tgkill]),
    ("robust_list", &[libc::SYS_get_robust_list]),
    ("msync", &[libc::SYS_msync]),
    ("advice", &[]),
    ("questions", &[libc::SYS_prctl, libc::SYS_wait4]),
    #[cfg(target_arch = "x86_64")]
    (
        "files",
        &[libc::SYS_openat, libc::SYS_open, libc::SYS_readlink, libc::SYS_readlinkat, libc::SYS_socket],
    ),
    #[cfg(not(target_arch = "x86_64"))]
    ("files", &[libc::SYS_openat, libc::SYS_readlinkat, libc::SYS_socket]),
];

/// What cannot be forbidden before the program is loaded.
const LOADER_NEEDS: &str = "files";

/// What a process that starts under the filter should find offered.
const OFFERED: &str = "EBBTIDE_SANDBOX_OFFERED";

/// Moves, many ranges at once, barrier, residency, advice about huge pages, the resident set.
fn offers() -> [bool; 6] {
    let kernel = ebbtide::mem_stats().kernel;
    let (moves, many) = (kernel.moves_pages, kernel.releases_many);
    [moves, many, kernel.barrier, kernel.residency, kernel.huge_page_advice, kernel.rss]
}

/// Those of the offers here that a filter leaves.
fn left_by(what: &str) -> [bool; 6] {
    let [moves, many, barrier, residency, advice, rss] = offers();
    let free = |name: &str| what != name && what != "all";
    [
        moves && free("mremap") && free("msync") && free("mincore"),
        many && free("process_madvise"),
        barrier && free("membarrier") && free("tgkill") && free("robust_list"),
        residency && free("mincore"),
        advice && free("advice"),
        rss,
    ]
}

fn processes(answer: Answer, when: &str) {
    if let Ok(what) = std::env::var(SANDBOX) {
        if when == "start" {
            let expected = std::env::var(OFFERED).expect("set beside the other");
            assert_eq!(format!("{:?}", offers()), expected, "{what}");
            return work(&what, || {});
        }
        work(&what, || install(&what, answer).expect("the kernel takes filters"));
        assert_eq!(offers(), [false; 6], "nothing more is used once a filter has come");
        return;
    }
    let names = FORBIDDEN.iter().map(|(name, _)| *name).chain(["all"]);
    for name in names.filter(|name| *name != "questions" && (when == "later" || *name != LOADER_NEEDS)) {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.env(SANDBOX, name).env("RUST_BACKTRACE", "0");
        if when == "start" {
            command.env(OFFERED, format!("{:?}", left_by(name)));
            let but = if name == "all" { "all but files" } else { name };
            // SAFETY: the closure allocates nothing and makes system calls alone, which are async-signal-safe.
            unsafe { command.pre_exec(move || install(but, answer)) };
        }
        let (status, said) = harness::finish(command, false).expect("a child process");
        assert!(status.success(), "{name} {when}: {status}\n{said}");
    }
}

/// The program says that it is about to lock itself in: then even the question for a filter may be forbidden.
fn told() {
    work("all and questions", || {
        ebbtide::enter_sandbox();
        install("all and questions", Answer::Kill).expect("the kernel takes filters");
    });
    assert_eq!(offers(), [false; 6]);
}

/// The environment says so, since the filter is there before the program is.
fn told_at_the_start() {
    if std::env::var_os(SANDBOX).is_some() {
        assert_eq!(offers(), [false; 6]);
        return work("questions", || {});
    }
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.env(SANDBOX, "questions").env("EBBTIDE_KERNEL", "plain").env("RUST_BACKTRACE", "0");
    // SAFETY: the closure allocates nothing and makes system calls alone, which are async-signal-safe.
    unsafe { command.pre_exec(|| install("questions", Answer::Kill)) };
    let (status, said) = harness::finish(command, false).expect("a child process");
    assert!(status.success(), "{status}\n{said}");
}

/// Installs a filter for the calling thread. Allocates nothing.
fn install(what: &str, answer: Answer) -> io::Result<()> {
    let is_forbidden = |name: &str| match what {
        "all and questions" => true,
        "all" => name != "questions",
        "all but files" => name != "files" && name != "questions",
        _ => what == name,
    };
    let mut filter = Filter::new(answer);
    for (_, calls) in FORBIDDEN.iter().filter(|(name, _)| is_forbidden(name)) {
        calls.iter().for_each(|call| filter.forbid(*call));
    }
    if is_forbidden("advice") {
        filter.forbid_unless(libc::SYS_madvise, 2, libc::MADV_DONTNEED as u32);
    }
    filter.install_for_this_thread()
}

/// The anonymous part of the resident set, from a file that is open already.
struct Gauge(File);

impl Gauge {
    fn open() -> Self {
        Self(File::open("/proc/self/smaps_rollup").expect("it is opened before files are forbidden"))
    }

    fn anonymous(&self) -> u64 {
        let mut text = [0; 4096];
        let len = self.0.read_at(&mut text, 0).expect("an open file can be read");
        let text = str::from_utf8(&text[..len]).expect("text");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Anonymous:"))
            .expect("the kernel prints this line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }
}

/// Two vectors that grow in turn, so that both must move.
fn grow_blocks() {
    let mut vecs = [vec![0_u64; 1 << 16], vec![1_u64; 1 << 16]];
    while vecs[0].len() < 1 << 20 {
        for vec in &mut vecs {
            let (len, value) = (vec.len(), vec[0]);
            vec.reserve_exact(len);
            vec.resize(2 * len, value);
        }
    }
    assert!(vecs.iter().zip([0, 1]).all(|(vec, value)| vec.iter().all(|item| *item == value)));
}

/// A map that grows until its pages are handed on, and shrinks.
fn grow_a_map() {
    let mut map = HashMap::new();
    (0..100_000_u64).for_each(|key| assert_eq!(map.insert(key, [key; 3]), None));
    assert!((0..100_000).all(|key| map.get(&key) == Some(&[key; 3])));
    (0..99_000).for_each(|key| assert_eq!(map.remove(&key), Some([key; 3])));
    assert!((99_000..100_000).all(|key| map.get(&key) == Some(&[key; 3])));
}

/// Small blocks with holes between those that stay.
fn scatter(blocks: &mut [Option<Block>]) {
    for (seed, slot) in blocks.iter_mut().enumerate() {
        *slot = Some(Block::filled(1000, seed as u64));
    }
    blocks.iter_mut().enumerate().filter(|(at, _)| at % 64 != 0).for_each(|(_, slot)| *slot = None);
}

#[track_caller]
fn check(blocks: &[Option<Block>]) {
    let mut live = blocks.iter().enumerate().filter_map(|(seed, slot)| Some((seed, slot.as_ref()?)));
    assert!(live.all(|(seed, block)| block.holds(seed as u64, 1000)));
}

/// Has a policy and a limit give memory back.
fn govern(blocks: &mut [Option<Block>], gauge: &Gauge, before: u64) {
    ebbtide::set_policy(Policy::Percent(10));
    for _ in 0..3 {
        scatter(blocks);
        grow_blocks();
        drop(vec![1_u8; 16 << 20]);
    }
    check(blocks);
    // A policy paces itself.
    let started = Instant::now();
    while gauge.anonymous() > before + 16 * MIB && started.elapsed() < patient(Duration::from_secs(20)) {
        drop(vec![1_u8; 1 << 20]);
        std::thread::sleep(Duration::from_millis(5));
    }
    at_most("resident under a policy", gauge.anonymous(), before, 16 * MIB);

    ebbtide::set_policy(Policy::Off);
    ebbtide::free_os_memory();
    let stats = ebbtide::mem_stats();
    let limit = stats.heap_sys - stats.heap_released + stats.metadata_sys + 36 * MIB;
    ebbtide::set_memory_limit(Some(limit)).expect("a limit in bytes");
    // Without the limit as much as all of them together would stay.
    for mib in [4, 8, 12, 16] {
        scatter(blocks);
        drop(vec![1_u8; mib << 20]);
    }
    check(blocks);
    at_most("resident under a limit", gauge.anonymous(), before, 40 * MIB);
    ebbtide::set_memory_limit(None).expect("a limit in bytes");
}

fn work(what: &str, forbid: impl FnOnce()) {
    let gauge = Gauge::open();
    let mut blocks: Vec<Option<Block>> = resident_vec(32 << 10);
    let before = harness::start(Policy::Off).max(gauge.anonymous());
    // Another thread whose cache a release would look at.
    let (wake, woken) = mpsc::channel::<()>();
    let (ready, is_ready) = mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        drop((0..2000).map(|at| vec![1_u8; at]).collect::<Vec<_>>());
        ready.send(()).expect("the trial waits");
        let _ = woken.recv();
    });
    is_ready.recv().expect("the thread is there");
    forbid();

    grow_blocks();
    grow_a_map();
    // One that comes under the filter.
    let young = std::thread::spawn(|| (0..2000).map(|at| vec![1_u8; at]).collect::<Vec<_>>());
    assert_eq!(young.join().expect("it only allocates").len(), 2000);
    scatter(&mut blocks);
    let full = gauge.anonymous();
    assert!(full >= before + 16 * MIB, "{full} is not much more than {before}");
    let report = ebbtide::free_os_memory();
    assert!(report.released_bytes >= 16 * MIB, "{report:?}");
    at_most("resident after a release", gauge.anonymous(), before, 6 * MIB);
    check(&blocks);
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
    assert!(ebbtide::mem_stats().kernel.sandboxed);
    if what == "all" {
        govern(&mut blocks, &gauge, before);
    }
    drop(blocks);
    ebbtide::free_os_memory();
    at_most("resident in the end", gauge.anonymous(), before, 8 * MIB);
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
    drop(wake);
    other.join().expect("the thread goes on");
}
