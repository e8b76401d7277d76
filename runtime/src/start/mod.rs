//! Start-up: reads the environment and puts its policy in force, once, before `main` or at the first call.
//!
//! No lock: one atomic tells whether it ran. A thread that comes while another is at it goes on at once: until it is
//! done the allocator keeps what it has, which is a valid state.
#![allow(unsafe_code, reason = "a link section runs the start-up before main")]

mod activation;
mod child;
mod environment;

use crate::kernel::sandbox;
use crate::{events, governor};
use core::sync::atomic::{AtomicBool, Ordering};

static STARTED: AtomicBool = AtomicBool::new(false);

/// What every public function that decides or tells something calls first.
pub(crate) fn ensure() {
    start();
    activation::check();
}

/// Starts the runtime if nothing did before.
fn start() {
    // Relaxed: who sees `true` needs nothing that the starting thread wrote, for each part of the state has a valid
    // value from the beginning.
    if !STARTED.load(Ordering::Relaxed) && !STARTED.swap(true, Ordering::Relaxed) {
        sandbox::begin();
        environment::check_kernel();
        activation::begin();
        events::begin(environment::topics());
        ebbtide_alloc::set_child_hook(child::begin);
        governor::begin(environment::policy(), environment::limit());
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
extern "C" fn before_main() {
    start();
}

// Without this, a program that only names the global allocator would run under no policy.
#[cfg(all(target_os = "linux", not(miri)))]
#[used]
// SAFETY: the loader calls each pointer in `.init_array` once, as a C function whose arguments may be ignored, before
// `main` and after libc is ready. `before_main` is such a function. It needs nothing of Rust's runtime, which is not
// ready: it allocates nothing, does not panic, and calls libc only.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;
