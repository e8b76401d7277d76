//! A program that has settings for ebbtide in its environment and another global allocator is told so. This file has no
//! `#[global_allocator]` on purpose; each test runs one of the functions below in a process of its own.

use ebbtide::{HashMap, Policy};
use std::process::Command;

/// What a child process runs.
const CHILD: &str = "ACTIVATION_CHILD";
const LINE: &str = "is set, but ebbtide is not this program's global allocator, so the environment reaches its maps \
                    alone; it takes: #[global_allocator] static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();";

/// Runs `program` with these variables set. Returns the lines of ebbtide's that it wrote to stderr.
fn lines(program: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(["the_child", "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, program);
    for name in ["POLICY", "MEMORY_LIMIT", "TRACE", "PROFILE", "TRACEBACK"] {
        command.env_remove(format!("EBBTIDE_{name}"));
    }
    let output = command.envs(variables.iter().copied()).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    said.lines().filter(|line| line.starts_with("ebbtide")).map(str::to_owned).collect()
}

#[test]
fn the_child() {
    let Ok(program) = std::env::var(CHILD) else { return };
    let fill = || {
        let mut map = HashMap::new();
        (0..100).for_each(|n| assert_eq!(map.insert(n, n), None));
        map
    };
    match program.as_str() {
        "nothing" => drop(Vec::<u8>::with_capacity(1000)),
        "maps" => (0..10).for_each(|_| assert_eq!(fill().len(), 100)),
        "calls" => {
            assert!(!ebbtide::is_active());
            ebbtide::set_policy(Policy::Off);
            ebbtide::free_os_memory();
            assert_eq!(fill().len(), 100);
        }
        "threads" => std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!((fill().len(), ebbtide::policy()), (100, Policy::Percent(20))));
            }
        }),
        other => panic!("{other}"),
    }
}

#[test]
fn settings_for_an_allocator_that_is_not_there_are_one_line() {
    let set = [("EBBTIDE_POLICY", "percent:20")];
    for program in ["maps", "calls", "threads"] {
        assert_eq!(lines(program, &set), [format!("ebbtide: EBBTIDE_POLICY {LINE}")], "{program}");
    }
    assert_eq!(lines("calls", &[("EBBTIDE_TRACE", "limit")]), [format!("ebbtide: EBBTIDE_TRACE {LINE}")]);
    assert_eq!(lines("calls", &[("EBBTIDE_MEMORY_LIMIT", "1GiB")]).len(), 1);
}

#[test]
fn without_settings_or_without_use_nothing_is_said() {
    for program in ["nothing", "maps", "calls"] {
        assert!(lines(program, &[]).is_empty(), "{program}");
        assert!(lines(program, &[("EBBTIDE_POLICY", ""), ("EBBTIDE_TRIAL", "x")]).is_empty(), "{program}");
    }
    assert!(lines("nothing", &[("EBBTIDE_POLICY", "off")]).is_empty(), "it may not use ebbtide at all");
}

#[test]
fn it_does_not_keep_other_lines_back() {
    let said = lines("maps", &[("EBBTIDE_POLICY", "sometimes")]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("ebbtide: EBBTIDE_POLICY=\"sometimes\" ignored"), "{said:?}");
    assert!(said[1].ends_with(LINE), "{said:?}");
}
