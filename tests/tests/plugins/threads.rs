//! Threads that used a plugin and end after it was unloaded.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ebbtide_tests::trial::Case;

use crate::host::{MIB, ONE, Plugin, path_of, status};

pub(crate) const CASES: &[Case] = &[
    Case { name: "threads_of_the_host_outlive_a_plugin", run: threads_of_the_host },
    Case { name: "threads_of_a_plugin_outlive_it", run: threads_of_the_plugin },
];

/// Fails, by a segmentation fault, where the destructor of a thread key is unloaded with the plugin.
fn threads_of_the_host() {
    let path = path_of(ONE);
    let mut before = (0, 0);
    for round in 0..300 {
        let plugin = Plugin::load(&path);
        let work = plugin.function(c"plugin_work");
        let (unloaded, wait) = mpsc::channel::<()>();
        let (working, works) = mpsc::channel();
        let thread = thread::spawn(move || {
            assert_eq!(work.call(round), 1);
            working.send(()).expect("the host waits");
            // Ends when the host has unloaded the plugin.
            let _ = wait.recv();
        });
        works.recv().expect("the thread works");
        plugin.unload();
        drop(unloaded);
        thread.join().expect("it ends well");
        if round == 20 {
            before = (status("VmSize"), status("VmRSS"));
        }
    }
    let after = (status("VmSize"), status("VmRSS"));
    assert!(after.0 <= before.0 + 64 * MIB, "address space: {} then {}", before.0, after.0);
    assert!(after.1 <= before.1 + 8 * MIB, "resident: {} then {}", before.1, after.1);
}

fn threads_of_the_plugin() {
    let path = path_of(ONE);
    let mut started = 0;
    for _ in 0..10 {
        let plugin = Plugin::load(&path);
        started += plugin.call(c"plugin_start_threads", 50);
        plugin.unload();
    }
    let plugin = Plugin::load(&path);
    let start = Instant::now();
    while plugin.call(c"plugin_threads_done", 0) < started {
        assert!(start.elapsed() < Duration::from_secs(20), "the threads go on in the plugin");
        thread::sleep(Duration::from_millis(10));
    }
    plugin.unload();
    // Their last steps are behind the count.
    thread::sleep(Duration::from_millis(100));
}
