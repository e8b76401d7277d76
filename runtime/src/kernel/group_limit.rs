//! The control group's limit that is followed: which files are held open, what they said last, and when to look again.
//!
//! Files are opened at the start, by calls that the program makes itself and, where that is safe, by the background thread;
//! inside an allocation or a free those that are open are read again, nothing else ([`Access`]). What cannot be read keeps its last
//! limit ([`Chain`]).
//!
//! Lock: [`Guard`]. Only calls that the program makes itself [wait](Guard::wait) for it; a thread that is freeing memory
//! [takes](Guard::take) it or goes on. Nothing is called under it but the kernel.

use crate::kernel;
use crate::kernel::cgroup::{self, Chain, Entry, Files, Path, SLOTS, Unknown};
use crate::kernel::files::{EBADF, HeldFile};
use crate::kernel::line::Line;
use crate::kernel::sandbox::{is_locked_in, is_told};
use crate::policy::limit::NONE;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read files that are open: inside an allocation or a free.
    Held,
    /// Open files, too: a call that the program makes itself.
    Open,
}

impl Access {
    /// What the background thread may do. It comes when the program does not expect it, so it opens nothing where it could not
    /// tell that a filter has come.
    pub(crate) fn of_background() -> Self {
        if is_told() { Self::Open } else { Self::Held }
    }
}

// All orderings are SeqCst, as in the governor.
/// The fields of the [`Chain`]. Only who holds [`BUSY`] uses them.
static NAMES: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
static LIMITS: [AtomicU64; SLOTS] = [const { AtomicU64::new(NONE) }; SLOTS];
static REST: [AtomicU64; 3] = [AtomicU64::new(NONE), AtomicU64::new(NONE), AtomicU64::new(1)];
/// The field that says whether a limit is missing.
const LOST: usize = 2;

/// Whether a thread uses the chain and the files that it holds.
static BUSY: AtomicU32 = AtomicU32::new(FREE);
const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// And another waits.
const WAITED_FOR: u32 = 2;

static READ_AT_NS: AtomicU64 = AtomicU64::new(0);
static OPENED_AT_NS: AtomicU64 = AtomicU64::new(0);
/// Whether something was refused, so that the next call that may open files tries again soon.
static PENDING: AtomicBool = AtomicBool::new(false);
static COMPLAINED: AtomicBool = AtomicBool::new(false);

/// Files that are held are read again after so long: some 20 us for 16 of them.
const READ_EVERY_NS: u64 = 20_000_000;
/// The process's groups are looked up again after so long.
const OPEN_EVERY_NS: u64 = 2_000_000_000;

/// The right to use the chain.
pub(crate) struct Guard(());

impl Guard {
    /// `None` if another thread has it. Then no guard is made, since one that is dropped would free the lock.
    pub(crate) fn take() -> Option<Self> {
        BUSY.compare_exchange(FREE, TAKEN, Ordering::SeqCst, Ordering::SeqCst).is_ok().then(|| Self(()))
    }

    /// Waits for it. `None` after a second: whoever has it was stopped, or is the caller itself in a signal handler.
    pub(crate) fn wait() -> Option<Self> {
        for _ in 0..500 {
            if let Some(guard) = Self::take() {
                return Some(guard);
            }
            let _ = BUSY.compare_exchange(TAKEN, WAITED_FOR, Ordering::SeqCst, Ordering::SeqCst);
            kernel::wait(&BUSY, WAITED_FOR, Some(Duration::from_millis(2)));
        }
        None
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if BUSY.swap(FREE, Ordering::SeqCst) == WAITED_FOR {
            kernel::wake(&BUSY);
        }
    }
}

fn load(_: &Guard) -> Chain {
    let mut chain = Chain::EMPTY;
    for (entry, (name, limit)) in chain.entries.iter_mut().zip(NAMES.iter().zip(&LIMITS)) {
        *entry = Entry { name: name.load(Ordering::SeqCst), limit: limit.load(Ordering::SeqCst) };
    }
    let [beyond, limit, lost] = REST.each_ref().map(|field| field.load(Ordering::SeqCst));
    (chain.beyond, chain.limit, chain.lost) = (beyond, limit, lost != 0);
    chain
}

fn store(_: &Guard, chain: &Chain) {
    for (entry, (name, limit)) in chain.entries.iter().zip(NAMES.iter().zip(&LIMITS)) {
        name.store(entry.name, Ordering::SeqCst);
        limit.store(entry.limit, Ordering::SeqCst);
    }
    let values = [chain.beyond, chain.limit, u64::from(chain.lost)];
    REST.iter().zip(values).for_each(|(field, value)| field.store(value, Ordering::SeqCst));
}

/// Holds no file any more.
pub(crate) fn stop(guard: &Guard, files: &impl Files) {
    let mut chain = load(guard);
    chain.let_go(files);
    store(guard, &chain);
}

/// What of `access` a look at the limit needs that is due now, if one is.
pub(crate) fn due(files: &impl Files, access: Access, now_ns: u64) -> Option<Access> {
    let open_every_ns = if PENDING.load(Ordering::SeqCst) { READ_EVERY_NS } else { OPEN_EVERY_NS };
    let due = if access == Access::Open && is_over(&OPENED_AT_NS, open_every_ns, now_ns) {
        Access::Open
    } else if is_over(&READ_AT_NS, READ_EVERY_NS, now_ns) {
        Access::Held
    } else {
        return None;
    };
    files.may_read().then_some(due)
}

/// Looks at the control group: finds it, or reads again what is held. Returns its limit in bytes, [`NONE`] if there is none;
/// nothing if that is not known.
pub(crate) fn look(guard: &Guard, files: &impl Files, access: Access, now_ns: u64) -> Option<u64> {
    let mut chain = load(guard);
    READ_AT_NS.store(now_ns, Ordering::SeqCst);
    if access == Access::Open {
        OPENED_AT_NS.store(now_ns, Ordering::SeqCst);
        let reading = chain.resolve(files, SLOTS);
        PENDING.store(reading.trouble.is_some_and(passes), Ordering::SeqCst);
        if let Some(trouble) = reading.trouble {
            complain(trouble, reading.limit);
        }
    } else {
        let reading = chain.reread(files);
        PENDING.fetch_or(reading.trouble.is_some_and(passes), Ordering::SeqCst);
    }
    store(guard, &chain);
    chain.known()
}

/// Whether so much time has gone by since `at`. A clock that went back proves nothing, so it has.
fn is_over(at: &AtomicU64, time_ns: u64, now_ns: u64) -> bool {
    now_ns.checked_sub(at.load(Ordering::SeqCst)).is_none_or(|age| age >= time_ns)
}

/// Whether it is worth trying again soon.
fn passes(trouble: Unknown) -> bool {
    matches!(trouble, Unknown::NoProc(_) | Unknown::Refused(_))
}

/// Tells once why the limit of the group is not known.
pub(crate) fn complain(trouble: Unknown, limit: u64) {
    if COMPLAINED.swap(true, Ordering::SeqCst) {
        return;
    }
    let line = match limit {
        NONE => {
            Line::new(format_args!("ebbtide: {trouble}; no limit is taken from there until it can be read"))
        }
        bytes => {
            Line::new(format_args!("ebbtide: {trouble}; the limit of {bytes} bytes that is known stays"))
        }
    };
    line.emit();
}

/// In a forked child: no other thread of the parent is here. If one was at work, what it has left is half an answer, so
/// the child begins anew, with the limit in force. Stores to atomics only.
pub(crate) fn begin_in_child() {
    if BUSY.swap(FREE, Ordering::SeqCst) != FREE {
        NAMES.iter().for_each(|name| name.store(0, Ordering::SeqCst));
        REST[LOST].store(1, Ordering::SeqCst);
        PENDING.store(true, Ordering::SeqCst);
    }
    // Another thread may have been about to look.
    READ_AT_NS.store(0, Ordering::SeqCst);
    PRESSURE_READS.store(0, Ordering::SeqCst);
}

/// The files of the running kernel, and those that are held.
pub(crate) struct Kernel;

/// The slots of the chain, and one more for memory pressure.
static HELD: [HeldFile; SLOTS + 1] = [const { HeldFile::new() }; SLOTS + 1];
const PRESSURE: usize = SLOTS;

fn held(slot: usize) -> Option<&'static HeldFile> {
    HELD.get(slot)
}

impl Files for Kernel {
    fn may_read(&self) -> bool {
        !is_locked_in()
    }

    fn each_line(&self, path: &Path, line: &mut dyn FnMut(&[u8])) -> Result<(), i32> {
        kernel::files::each_line(path.as_c_str(), line)
    }

    fn hold(&self, slot: usize, path: &Path) -> Result<(), i32> {
        held(slot).map_or(Err(EBADF), |file| file.open(path.as_c_str()))
    }

    fn read_held(&self, slot: usize, buffer: &mut [u8]) -> Result<usize, i32> {
        held(slot).map_or(Err(EBADF), |file| file.read(buffer))
    }

    fn let_go(&self, slot: usize) {
        // A process that has locked itself in keeps what is open: even the look whether it is still ours may be forbidden.
        if let Some(file) = held(slot).filter(|_| !is_locked_in()) {
            file.close();
        }
    }
}

/// How often the file of memory pressure was read since it was opened.
static PRESSURE_READS: AtomicU32 = AtomicU32::new(0);
/// After so many it is looked for again: the group may have been moved. A minute, at one every five seconds.
const PRESSURE_LASTS: u32 = 12;

/// Opens the file of memory pressure, if that is not done. For calls that the program makes itself.
pub(crate) fn watch_pressure() {
    if !held(PRESSURE).is_some_and(HeldFile::is_held)
        && !is_locked_in()
        && let Some(guard) = Guard::take()
    {
        look_for_pressure(&guard);
    }
}

fn look_for_pressure(_: &Guard) -> Option<Path> {
    PRESSURE_READS.store(0, Ordering::SeqCst);
    cgroup::hold_pressure(&Kernel, PRESSURE)
}

/// The share of the last ten seconds in which some task waited for memory, in hundredths of a percent. `None` where the
/// kernel does not measure it, or nothing may be read. For the background thread.
pub(crate) fn memory_pressure() -> Option<u32> {
    if is_locked_in() {
        return None;
    }
    let guard = Guard::take()?;
    let mut text = [0; 256];
    let reads = PRESSURE_READS.fetch_add(1, Ordering::SeqCst);
    let mut read = Kernel.read_held(PRESSURE, &mut text);
    if (read.is_err() || reads >= PRESSURE_LASTS) && Access::of_background() == Access::Open {
        look_for_pressure(&guard)?;
        read = Kernel.read_held(PRESSURE, &mut text);
    }
    drop(guard);
    let text = text.get(..read.ok()?).unwrap_or_default();
    let pressure = text.split(|byte| *byte == b'\n').find_map(cgroup::parse_pressure);
    if pressure.is_none() && !COMPLAINED.swap(true, Ordering::SeqCst) {
        let form = "the file of memory pressure has no line such as \"some avg10=0.00\"";
        Line::new(format_args!("ebbtide: {form}; memory pressure is not watched")).emit();
    }
    pressure
}

/// Held by tests that follow a group: the chain is the process's.
#[cfg(test)]
pub(crate) static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cgroup::fake::Tree;

    const SECOND: u64 = 1_000_000_000;
    const FILE: &str = "/sys/fs/cgroup/a/memory.max";

    fn follow(tree: &Tree, now_ns: u64) -> Option<u64> {
        look(&Guard::wait()?, tree, Access::Open, now_ns)
    }

    fn refresh(tree: &Tree, access: Access, now_ns: u64) -> Option<u64> {
        let access = due(tree, access, now_ns)?;
        look(&Guard::take()?, tree, access, now_ns)
    }

    fn stop(tree: &Tree) {
        super::stop(&Guard::wait().expect("free"), tree);
    }

    #[test]
    fn files_are_opened_where_that_is_allowed_and_read_again_elsewhere() {
        let _alone = ALONE.lock();
        let tree = Tree::two("/a", "/").with(FILE, "1000\n");
        assert_eq!(follow(&tree, SECOND), Some(1000));
        let opened = tree.opened.get();
        tree.set(FILE, "900\n");
        assert_eq!(refresh(&tree, Access::Held, SECOND + READ_EVERY_NS - 1), None, "not yet");
        assert_eq!(refresh(&tree, Access::Held, SECOND + READ_EVERY_NS), Some(900));
        assert_eq!(refresh(&tree, Access::Open, SECOND + 2 * READ_EVERY_NS), Some(900));
        assert_eq!(tree.opened.get(), opened, "nothing was opened for that");
        assert_eq!(refresh(&tree, Access::Open, 3 * SECOND), Some(900));
        assert!(tree.opened.get() > opened);
        // The program closes all, and has no descriptors left.
        tree.close_all();
        tree.refuse(FILE, libc::EMFILE);
        tree.set(FILE, "800\n");
        let opened = tree.opened.get();
        assert_eq!(refresh(&tree, Access::Held, 4 * SECOND), Some(900), "the last one stays");
        assert_eq!(tree.opened.get(), opened);
        assert_eq!(refresh(&tree, Access::Open, 4 * SECOND + 1), Some(900), "what was refused is due soon");
        assert!(tree.opened.get() > opened);
        tree.refuse(FILE, 0);
        assert_eq!(refresh(&tree, Access::Open, 4 * SECOND + 2), None);
        assert_eq!(refresh(&tree, Access::Open, 4 * SECOND + 1 + READ_EVERY_NS), Some(800));
        // The clock goes back by days, jumps ahead, and stands still.
        tree.set(FILE, "700\n");
        assert_eq!(refresh(&tree, Access::Held, 5), Some(700));
        assert_eq!(refresh(&tree, Access::Held, 5), None);
        assert_eq!(refresh(&tree, Access::Open, 5), Some(700), "it was last opened in the time to come");
        assert_eq!(refresh(&tree, Access::Held, u64::MAX), Some(700));
        assert_eq!(refresh(&tree, Access::Held, u64::MAX), None);
        // Another thread is at it.
        let guard = Guard::take().expect("free");
        assert_eq!(refresh(&tree, Access::Open, 7), None);
        begin_in_child();
        drop(guard);
        assert_eq!(refresh(&tree, Access::Held, 8 * SECOND), Some(700), "the child keeps it");
        assert_eq!(refresh(&tree, Access::Open, 8 * SECOND), Some(700), "and finds it again");
        stop(&tree);
        assert!(tree.held().is_empty());
    }

    #[test]
    fn who_does_not_get_the_guard_leaves_it_to_who_has_it() {
        let _alone = ALONE.lock();
        let guard = Guard::take().expect("free");
        assert!(Guard::take().is_none());
        assert!(Guard::take().is_none(), "still taken");
        drop(guard);
        assert!(Guard::take().is_some());
    }

    #[test]
    fn what_is_not_known_is_no_answer() {
        let _alone = ALONE.lock();
        let tree = Tree::two("/a", "/").with(FILE, "max\n");
        assert_eq!(refresh(&tree, Access::Held, SECOND), None, "nothing was looked up yet");
        for path in ["/proc/self/cgroup", FILE] {
            tree.refuse(path, libc::EMFILE);
            assert_eq!(follow(&tree, SECOND), None, "{path} is refused");
            assert_eq!(refresh(&tree, Access::Held, 2 * SECOND), None);
            tree.refuse(path, 0);
            assert_eq!(refresh(&tree, Access::Open, 3 * SECOND), Some(NONE), "max is an answer");
            stop(&tree);
        }
        // One file says max, another one never said anything.
        tree.refuse("/sys/fs/cgroup/memory.max", libc::EACCES);
        assert_eq!(follow(&tree, SECOND), None);
        assert_eq!(refresh(&tree, Access::Held, 2 * SECOND), None);
        tree.set(FILE, "500\n");
        assert_eq!(refresh(&tree, Access::Held, 3 * SECOND), Some(500));
        stop(&tree);
        // A fork while another thread stores what it has found.
        let guard = Guard::take().expect("free");
        store(&guard, &Chain { lost: false, ..Chain::EMPTY });
        begin_in_child();
        drop(guard);
        assert_eq!(refresh(&tree, Access::Held, 4 * SECOND), None, "half an answer");
        stop(&tree);
    }

    #[test]
    fn the_file_of_memory_pressure_is_held() {
        let _alone = ALONE.lock();
        watch_pressure();
        let file = held(PRESSURE).expect("a slot");
        let unmeasured = std::fs::read("/proc/pressure/memory").is_err();
        assert!(file.is_held() || unmeasured);
        let known = memory_pressure();
        assert!(known.is_some() || unmeasured);
        let reads = PRESSURE_READS.load(Ordering::SeqCst);
        assert_eq!(memory_pressure().is_some(), known.is_some());
        assert!(PRESSURE_READS.load(Ordering::SeqCst) > reads || unmeasured, "read again, not looked for");
        file.close();
        assert_eq!(memory_pressure().is_some(), known.is_some(), "found again");
    }
}
