//! A tokio runtime whose workers call `ebbtide::flush_thread_cache` before they sleep, beside one whose workers do not:
//! what their caches hold when the work is done, and what the process has resident.
//!
//! `cargo run --release -p ebbtide --example tokio`

use std::sync::{Barrier, LazyLock};
use std::time::Duration;

use ebbtide::{MemStats, Policy};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

const WORKERS: usize = 16;
/// Objects of each size that a task holds at once.
const OBJECTS: usize = 500;
/// Long enough for workers without tasks to park.
const PAUSE: Duration = Duration::from_millis(300);

/// A request: many objects of many sizes, all gone at its end.
async fn request() -> usize {
    // All workers are at it at once, so that each has a cache of its own.
    static ALL: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(WORKERS));
    ALL.wait();
    let sizes = (4..15).flat_map(|power| [1_usize << power, 3 << power]);
    sizes.map(|size| (0..OBJECTS).map(|_| vec![1_u8; size]).collect::<Vec<_>>().len()).sum()
}

fn serve(runtime: &Runtime) -> MemStats {
    runtime.block_on(async {
        let requests: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(request())).collect();
        for request in requests {
            assert!(request.await.is_ok_and(|bytes| bytes > 0));
        }
    });
    std::thread::sleep(PAUSE);
    ebbtide::mem_stats()
}

fn runtime(hint: bool) -> std::io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(WORKERS);
    if hint {
        builder.on_thread_park(ebbtide::flush_thread_cache);
    }
    builder.build()
}

fn main() -> std::io::Result<()> {
    // So that each line shows the caches alone, and not what the policy does besides.
    ebbtide::set_policy(Policy::Off);
    println!("{:<28}{:>14}{:>14}{:>14}", "", "cached MiB", "free MiB", "rss MiB");
    for (name, hint) in [("workers park as they are", false), ("workers call idle() first", true)] {
        let served = runtime(hint)?;
        let quiet = serve(&served);
        print(name, &quiet);
        ebbtide::free_os_memory();
        print("  and after a release", &ebbtide::mem_stats());
    }
    Ok(())
}

fn print(name: &str, stats: &MemStats) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{name:<28}{:>14.1}{:>14.1}{:>14.1}",
        mib(stats.heap_cached),
        mib(stats.heap_free),
        mib(stats.rss)
    );
}
