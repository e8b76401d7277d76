//! A release at each single instruction of an allocation and of a free, which are stopped there meanwhile.
//!
//! The processor's trap flag has the kernel send `SIGTRAP` after every instruction. At the n-th the handler keeps the
//! thread until another one has done a whole release. Then the operation ends, as does one that was preempted there.
#![allow(unsafe_code, reason = "the trap flag is set by an instruction of its own")]

use std::arch::asm;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ebbtide::Policy;
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{errno, set_errno};
use ebbtide_tests::signal::{handle, now, pause};

use crate::harness::{Case, StopOnDrop, start};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "release_at_each_instruction_of_an_allocation",
        run: || each_instruction(Operation::Allocate),
    },
    Case { name: "release_at_each_instruction_of_a_free", run: || each_instruction(Operation::Free) },
];

/// The flag of the processor that traps after each instruction.
const TRAP: i64 = 1 << 8;
/// A release that has not come back by then waits for the thread that is stopped.
const PATIENCE_NS: u64 = 20_000_000_000;
/// A size that the harness does not use while a trial runs.
const SIZE: usize = 240;

// SeqCst throughout: the handler and two threads meet here, and nothing is in a hurry.
/// Instructions of the operation so far.
static STEPS: AtomicU64 = AtomicU64::new(0);
/// After how many of them to stop.
static STOP_AT: AtomicU64 = AtomicU64::new(u64::MAX);
static ASKED: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static WAITED_IN_VAIN: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Allocate,
    Free,
}

extern "C" fn stepped(_signal: i32, _info: *mut libc::siginfo_t, context: *mut c_void) {
    if STEPS.fetch_add(1, Ordering::SeqCst) != STOP_AT.load(Ordering::SeqCst) {
        return;
    }
    let before = errno();
    let asked = ASKED.fetch_add(1, Ordering::SeqCst) + 1;
    let until = now() + PATIENCE_NS;
    while DONE.load(Ordering::SeqCst) < asked {
        if now() > until {
            WAITED_IN_VAIN.store(true, Ordering::SeqCst);
            break;
        }
        std::hint::spin_loop();
    }
    set_errno(before);
    // SAFETY: with SA_SIGINFO the third argument is the interrupted thread's context, which the handler may change.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_EFL as usize] &= !TRAP };
}

/// Does `work` with a trap after each instruction. Returns how many there were, up to the one to stop at.
fn in_steps<R>(stop_at: u64, work: impl FnOnce() -> R) -> (R, u64) {
    STEPS.store(0, Ordering::SeqCst);
    STOP_AT.store(stop_at, Ordering::SeqCst);
    // SAFETY: the trap flag changes nothing but that signals come, for which there is a handler. The stack is in use
    // by these instructions alone, and balanced.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    let result = work();
    // SAFETY: as above.
    unsafe { asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
    (result, STEPS.load(Ordering::SeqCst))
}

/// Live blocks with a pattern each.
struct Live {
    blocks: Vec<Block>,
}

impl Live {
    fn seed(at: usize) -> u64 {
        at as u64 * 3 + 1
    }

    fn add(&mut self, mut block: Block) {
        block.fill(Self::seed(self.blocks.len()));
        self.blocks.push(block);
    }

    fn allocate(&mut self) {
        self.add(Block::new(SIZE));
    }

    fn cached() -> usize {
        ebbtide::mem_stats().heap_cached as usize / SIZE
    }

    /// Starts anew, with `held` free slots in this thread's stack for the size.
    fn prepare(&mut self, held: usize) {
        self.blocks.clear();
        // This empties the thread's own cache, and leaves an entry or two in others.
        ebbtide::free_os_memory();
        let others = Self::cached();
        self.allocate();
        let more = Self::cached() - others;
        assert!(more >= held && more < 300, "{more} slots came with one refill");
        (held..more).for_each(|_| self.allocate());
        assert_eq!(Self::cached() - others, held);
    }

    #[track_caller]
    fn check(&self, what: &str) {
        let whole = |(at, block): (usize, &Block)| block.holds(Self::seed(at), SIZE);
        assert!(self.blocks.iter().enumerate().all(whole), "{what}: a block was overwritten");
        assert_eq!(ebbtide_alloc::verify(), Ok(()), "{what}");
    }
}

fn release_when_asked(stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let asked = ASKED.load(Ordering::SeqCst);
        if asked == DONE.load(Ordering::SeqCst) {
            pause(Duration::from_micros(20));
            continue;
        }
        ebbtide::free_os_memory();
        DONE.store(asked, Ordering::SeqCst);
    }
}

/// Stops the operation at its first instruction, at its second, and so on to its end. Returns how many there are.
fn stop_everywhere(operation: Operation, held: usize, live: &mut Live) -> u64 {
    for stop_at in 0.. {
        let what =
            format!("{operation:?} with {held} slots in the stack, stopped after {stop_at} instructions");
        live.prepare(held);
        let steps = match operation {
            Operation::Allocate => {
                let (block, steps) = in_steps(stop_at, || Block::new(SIZE));
                live.add(block);
                steps
            }
            Operation::Free => {
                let block = live.blocks.pop().expect("there are blocks");
                in_steps(stop_at, || drop(block)).1
            }
        };
        assert!(!WAITED_IN_VAIN.load(Ordering::SeqCst), "{what}: the release waited for it");
        live.check(&what);
        // Whatever the release and the operation left: no slot may be handed out twice.
        (0..held + 10).for_each(|_| live.allocate());
        live.check(&what);
        if steps <= stop_at {
            return steps;
        }
    }
    unreachable!("an operation ends")
}

/// Fails where a release takes the entry that a pop or push under way uses, where the owner does not take note of what
/// was taken, and where a release waits for a thread that is stopped in its fast path.
fn each_instruction(operation: Operation) {
    start(Policy::Off);
    handle(libc::SIGTRAP, stepped);
    let mut live = Live { blocks: Vec::with_capacity(2000) };
    // Widens the stack to its limit, so that later refills bring the same number.
    (0..1500).for_each(|_| live.allocate());
    let stop = AtomicBool::new(false);
    let (steps, releases) = thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| release_when_asked(&stop));
        let steps: u64 = [1, 2, 3, 30].map(|held| stop_everywhere(operation, held, &mut live)).iter().sum();
        (steps, DONE.load(Ordering::SeqCst))
    });
    assert!(steps > 4 * 10, "only {steps} instructions were seen");
    assert!(releases >= steps, "one release an instruction");
}
