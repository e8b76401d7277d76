//! The background thread's work: one turn after the other, as its pace allows. It is never needed for correctness. No lock.

use super::campaign::{self, Campaign, Turn};
use super::settle::settle;
use super::{in_force, thread};
use crate::kernel;
use crate::policy::pace::Pace;
use core::time::Duration;

/// How often to look what the kernel says of its memory, and of the control group's limit.
const WATCH: Duration = Duration::from_secs(10);

/// What the thread does.
pub(super) fn run() {
    thread::as_the_one(work);
}

fn work() {
    let mut pace = Pace::new(kernel::monotonic_ns());
    let mut campaign = Campaign::default();
    loop {
        thread::answer();
        if !in_force::wants_background() && leaves() {
            return;
        }
        let wait_ns = pace.wait_ns(kernel::monotonic_ns());
        if wait_ns > 0 {
            thread::sleep(Some(Duration::from_nanos(wait_ns)));
            continue;
        }
        let before = kernel::thread_cpu_ns();
        let turn = campaign::turn(&mut campaign);
        pace.spend(kernel::thread_cpu_ns().saturating_sub(before));
        match turn {
            Turn::More => {}
            Turn::After(wait_ns) => thread::sleep(Some(Duration::from_nanos(wait_ns))),
            Turn::Done { watch } => {
                thread::is_done();
                settle();
                // What was freed before the bounds were set rang for nobody.
                if !campaign::is_due() {
                    thread::sleep(watch.then_some(WATCH));
                }
            }
        }
    }
}

/// The thread ends, unless it is wanted again since.
fn leaves() -> bool {
    thread::depart();
    settle();
    !(in_force::wants_background() && thread::comes_back())
}
