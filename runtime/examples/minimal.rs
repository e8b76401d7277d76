//! The smallest program: a burst of allocations goes by, and the memory it took is given back.

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

fn main() {
    // Nothing leaves before it is asked for, so that the report below has something to tell.
    ebbtide::set_policy(ebbtide::Policy::Off);

    let mut sessions: Vec<String> =
        (0..1_000_000).map(|id| format!("session {id}: {}", "x".repeat(id % 64))).collect();
    sessions.drain(..950_000);
    sessions.shrink_to_fit();

    let report = ebbtide::free_os_memory();
    println!("{report}");
    println!("{} sessions are left", sessions.len());
}
