//! Plugins that are loaded and unloaded again and again, with heaps, maps and policies of their own.
#![allow(unsafe_code, reason = "changes the folder of the process, and forks")]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ebbtide_tests::memory::{errno, set_errno};
use ebbtide_tests::patience::eventually;
use ebbtide_tests::trial::Case;

use crate::host::{MIB, ONE, Plugin, TWO, path_of, status};

pub(crate) const CASES: &[Case] = &[
    Case { name: "a_plugin_is_loaded_a_thousand_times", run: a_thousand_times },
    Case { name: "a_plugin_keeps_its_maps_and_blocks", run: keeps_what_it_has },
    Case { name: "two_plugins_have_heaps_of_their_own", run: two_plugins },
    Case { name: "a_plugin_of_a_relative_path_that_is_gone_stays", run: relative_and_gone },
    Case { name: "a_plugin_in_a_namespace_of_its_own_stays", run: own_namespace },
    Case { name: "a_policy_goes_on_in_an_unloaded_plugin", run: policies },
    Case { name: "a_host_forks_with_plugins_loaded", run: forks },
];

/// Fails where each time takes address space anew, or where the heap of the time before is lost.
fn a_thousand_times() {
    let path = path_of(ONE);
    let mut before = (0, 0);
    for round in 0..1000 {
        set_errno(77);
        let plugin = Plugin::load(&path);
        assert_eq!(plugin.call(c"plugin_work", round), 1);
        plugin.unload();
        if round == 20 {
            before = (status("VmSize"), status("VmRSS"));
        }
    }
    let after = (status("VmSize"), status("VmRSS"));
    assert!(after.0 <= before.0 + 16 * MIB, "address space: {} then {}", before.0, after.0);
    assert!(after.1 <= before.1 + 8 * MIB, "resident: {} then {}", before.1, after.1);
    // The loader may set errno; ours may not make it worse than it was for a plugin that stays loaded.
    let plugin = Plugin::load(&path);
    set_errno(77);
    assert_eq!((plugin.call(c"plugin_work", 1), errno()), (1, 77));
    assert!(plugin.call(c"plugin_times_loaded", 0) > 0);
}

fn keeps_what_it_has() {
    let path = path_of(ONE);
    let plugin = Plugin::load(&path);
    assert_eq!(plugin.call(c"plugin_still_has", 5), 0);
    assert_eq!(plugin.call(c"plugin_keep", 5), 1);
    for times in 1..50 {
        let plugin = Plugin::load(&path);
        assert_eq!(plugin.call(c"plugin_times_loaded", 0), times);
        plugin.unload();
    }
    plugin.unload();
    let plugin = Plugin::load(&path);
    assert_eq!(plugin.call(c"plugin_times_loaded", 0), 50, "it is the same object");
    assert_eq!(plugin.call(c"plugin_still_has", 5), 1);
    assert_eq!(plugin.call(c"plugin_verify", 0), 1);
    plugin.unload();
}

fn two_plugins() {
    let paths = [path_of(ONE), path_of(TWO)];
    for round in 0..20 {
        let plugins = paths.each_ref().map(|path| Plugin::load(path));
        if round == 0 {
            let kept = [3, 4].map(|seed| plugins[seed as usize - 3].call(c"plugin_keep", seed));
            assert_eq!(kept, [1, 1]);
        }
        assert_eq!(plugins.each_ref().map(|plugin| plugin.call(c"plugin_work", round)), [1, 1]);
        assert_eq!([3, 4].map(|seed| plugins[seed as usize - 3].call(c"plugin_still_has", seed)), [1, 1]);
        plugins.into_iter().for_each(Plugin::unload);
    }
}

/// The loader knows the object by a string that names no file any more.
fn relative_and_gone() {
    let folder = std::env::temp_dir().join(format!("ebbtide-plugin-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a place for files");
    fs::copy(path_of(ONE), folder.join("copy.so")).expect("room for a copy");
    std::env::set_current_dir(&folder).expect("the folder is there");
    let plugin = Plugin::load("./copy.so".as_ref());
    std::env::set_current_dir("/").expect("there is a root");
    fs::remove_dir_all(&folder).expect("it is ours");
    let work = plugin.function(c"plugin_work");
    let outlives = thread::spawn(move || {
        assert_eq!(work.call(1), 1);
        thread::sleep(Duration::from_millis(50));
        work.call(2)
    });
    thread::sleep(Duration::from_millis(20));
    plugin.unload();
    assert_eq!(outlives.join().expect("it stays in memory"), 1);
    assert_eq!(work.call(3), 1);
}

/// The plugin has a C library of its own there, so it is called on the main thread alone.
fn own_namespace() {
    let plugin = Plugin::load_apart(&path_of(ONE));
    let works = plugin.function(c"plugin_work");
    assert_eq!(works.call(1), 1);
    plugin.unload();
    assert_eq!(works.call(2), 1);
}

/// Fails where a background thread runs, or a callback is called, in code that is gone.
fn policies() {
    let path = path_of(ONE);
    for policy in [0, 1, 2, 1, 2] {
        let plugin = Plugin::load(&path);
        assert_eq!(plugin.burst(policy, 96), 1);
        plugin.unload();
    }
    let (start, most) = (Instant::now(), 48 * MIB);
    while status("RssAnon") > most {
        assert!(start.elapsed() < Duration::from_secs(20), "{} stay", status("RssAnon"));
        thread::sleep(Duration::from_millis(50));
    }
    let plugin = Plugin::load(&path);
    assert!(plugin.call(c"plugin_events", 0) > 0, "callbacks were called");
    assert_eq!(plugin.call(c"plugin_work", 1), 1);
    // While the background thread releases, the heap is not at rest.
    assert!(
        eventually(Duration::from_secs(5), || plugin.call(c"plugin_verify", 0) == 1),
        "the heap is broken"
    );
    plugin.unload();
}

/// Handlers of each copy run: that of a plugin which was unloaded, too.
fn forks() {
    let (one, two) = (Plugin::load(&path_of(ONE)), Plugin::load(&path_of(TWO)));
    assert_eq!([&one, &two].map(|plugin| plugin.call(c"plugin_keep", 6)), [1, 1]);
    assert_eq!(one.call(c"plugin_start_threads", 100), 4);
    two.unload();
    for _ in 0..10 {
        // SAFETY: the child uses plugins and threads, which must work after a fork, and leaves by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let again = Plugin::load(&path_of(TWO));
            let work = again.function(c"plugin_work");
            let other = thread::spawn(move || work.call(2));
            let whole = [&one, &again].map(|plugin| plugin.call(c"plugin_still_has", 6)) == [1, 1]
                && one.call(c"plugin_work", 1) == 1
                && other.join().is_ok_and(|whole| whole == 1);
            again.unload();
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(i32::from(!whole)) };
        }
        let mut status = 0;
        // SAFETY: `status` is valid for writes, and the child was not waited for. One that hangs fails the trial.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "wait status of a child");
    }
    one.unload();
}
