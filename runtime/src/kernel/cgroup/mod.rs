//! The memory limit of the control group that this process runs in: version 2 (`memory.max`, `memory.high`) and
//! version 1 (`memory.limit_in_bytes`), the least of all groups from the process's own up to the mount point.
//!
//! | file | what it holds |
//! |---|---|
//! | `path.rs` | [`Path`] without heap memory |
//! | `files.rs` | [`Files`], the means to read them; [`Unknown`], why a limit is not known |
//! | `place.rs` | where the group's folder is |
//! | `chain.rs` | [`Chain`]: all files with a limit, and what they said last |
//!
//! Parsers over bytes, and walks that are given the means to read a file, so that tests walk trees that do not exist.
//! Nothing here allocates: it may run on a thread that is allocating. No locks.

mod chain;
#[cfg(test)]
pub(crate) mod fake;
mod files;
mod path;
mod place;

use crate::policy::limit::NONE;
pub(crate) use chain::{Chain, Entry, SLOTS};
pub(crate) use files::{Files, Unknown};
pub(crate) use path::Path;

/// The limit in bytes; `Ok(None)` if there is none. It holds nothing.
pub(crate) fn memory_limit(files: &impl Files) -> Result<Option<u64>, Unknown> {
    let mut chain = Chain::EMPTY;
    let reading = chain.resolve(files, 0);
    match (reading.limit, reading.trouble) {
        (NONE, Some(trouble)) => Err(trouble),
        (limit, _) => Ok(Some(limit).filter(|limit| *limit != NONE)),
    }
}

/// Holds the file of memory pressure that concerns this process in a slot: its group's, if it has one. Returns its path.
pub(crate) fn hold_pressure(files: &impl Files, slot: usize) -> Option<Path> {
    let place = place::places(files).ok().and_then(|places| places[place::Version::Two as usize]);
    let of_group = place.and_then(|place| place.nearest_file(b"/memory.pressure"));
    let of_system = Path::of(&[b"/proc/pressure/memory"]);
    [of_group, of_system].into_iter().flatten().find(|path| files.hold(slot, path).is_ok())
}

/// The share of the last ten seconds in which some task was held up for want of memory, in hundredths of a percent, as a
/// line of a pressure file says it: `some avg10=1.50 avg60=...`.
pub(crate) fn parse_pressure(line: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(line).ok()?;
    let mut words = text.split_ascii_whitespace();
    if words.next()? != "some" {
        return None;
    }
    let (whole, part) = words.find_map(|word| word.strip_prefix("avg10="))?.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() != 2 {
        return None;
    }
    let hundredths = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)?;
    (hundredths <= 10_000).then_some(hundredths)
}

#[cfg(test)]
mod tests {
    use super::chain::{Reading, UNLIMITED, parse_limit};
    use super::fake::Tree;
    use super::place::{group_of, mount_of};
    use super::*;
    use crate::kernel::files::{ENODEV, ENOENT};
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn version_2_takes_the_least_from_the_group_upwards() {
        let tree = || {
            Tree::two("/a/b", "/")
                .with("/sys/fs/cgroup/a/b/memory.max", "max\n")
                .with("/sys/fs/cgroup/a/b/memory.high", "max\n")
        };
        assert_eq!(memory_limit(&tree()), Ok(None));
        let parent = tree().with("/sys/fs/cgroup/a/memory.max", "1073741824\n");
        assert_eq!(memory_limit(&parent), Ok(Some(1024 * MIB)));
        let own = parent.with("/sys/fs/cgroup/a/b/memory.max", "536870912\n");
        assert_eq!(memory_limit(&own), Ok(Some(512 * MIB)));
        let high = own.with("/sys/fs/cgroup/a/b/memory.high", "268435456\n");
        assert_eq!(memory_limit(&high), Ok(Some(256 * MIB)), "the kernel throttles from there on");
        let above = high.with("/sys/fs/memory.max", "1\n");
        assert_eq!(memory_limit(&above), Ok(Some(256 * MIB)), "not beyond the mount point");
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_mount_point() {
        let inside = Tree::two("/", "/").with("/sys/fs/cgroup/memory.max", "1048576\n");
        assert_eq!(memory_limit(&inside), Ok(Some(MIB)));
        let part = Tree::one("/docker/7f", "/docker/7f")
            .with("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2097152\n");
        assert_eq!(memory_limit(&part), Ok(Some(2 * MIB)));
        let elsewhere = Tree::two("/../../x", "/").with("/sys/fs/cgroup/memory.max", "3145728\n");
        assert_eq!(memory_limit(&elsewhere), Ok(Some(3 * MIB)));
        let other = Tree::two("/kubepods/a", "/kubepods/abc").with("/sys/fs/cgroup/memory.max", "4194304\n");
        assert_eq!(memory_limit(&other), Ok(Some(4 * MIB)), "a name that only begins like the root");
    }

    #[test]
    fn version_1_is_walked_too_and_its_huge_number_is_none() {
        let none = Tree::one("/a", "/")
            .with("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n")
            .with("/sys/fs/cgroup/cpu/a/memory.limit_in_bytes", "1\n");
        assert_eq!(memory_limit(&none), Ok(None));
        let parent = none.with("/sys/fs/cgroup/memory/memory.limit_in_bytes", "8388608");
        assert_eq!(memory_limit(&parent), Ok(Some(8 * MIB)));
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        assert_eq!(memory_limit(&Tree::default()), Err(Unknown::NoProc(ENOENT)));
        let no_mounts = Tree::default().with("/proc/self/cgroup", "0::/\n");
        assert_eq!(memory_limit(&no_mounts), Err(Unknown::NoProc(ENOENT)));
        assert_eq!(memory_limit(&Tree::two("/a", "/")), Ok(None), "no such files: no limit");
        for content in ["", "-1\n", "1 MiB\n", "12\n13\n", "0x10\n"] {
            let tree = Tree::two("/", "/").with("/sys/fs/cgroup/memory.max", content);
            assert_eq!(memory_limit(&tree), Err(Unknown::Malformed), "{content:?}");
            let tree = tree.with("/sys/fs/cgroup/memory.high", "4096\n");
            assert_eq!(memory_limit(&tree), Ok(Some(4096)), "the other file is well");
        }
        let long =
            Tree::two(&format!("/{}", "x".repeat(600)), "/").with("/sys/fs/cgroup/memory.max", "4096\n");
        assert_eq!(memory_limit(&long), Ok(Some(4096)), "the nearest group above whose path is short enough");
    }

    const A: &str = "/sys/fs/cgroup/a/memory.max";
    const B: &str = "/sys/fs/cgroup/a/b/memory.max";
    const TOP: &str = "/sys/fs/cgroup/memory.max";
    const WELL: fn(u64) -> Reading = |limit| Reading { limit, trouble: None };

    fn two_groups() -> (Tree, Chain) {
        let tree = Tree::two("/a/b", "/").with(A, "1000\n").with(B, "2000\n");
        let mut chain = Chain::EMPTY;
        assert_eq!(chain.resolve(&tree, SLOTS), WELL(1000));
        assert_eq!(tree.held(), [B, A]);
        (tree, chain)
    }

    /// What may come in the way of a reading and says nothing of the limit.
    const REFUSALS: [i32; 6] =
        [libc::EMFILE, libc::ENFILE, libc::EACCES, libc::EINTR, libc::EIO, libc::ENOMEM];

    #[test]
    fn a_refusal_keeps_the_last_limit() {
        for errno in REFUSALS {
            for path in ["/proc/self/cgroup", "/proc/self/mountinfo"] {
                let (tree, mut chain) = two_groups();
                tree.refuse(path, errno);
                let trouble = Some(Unknown::NoProc(errno));
                assert_eq!(chain.resolve(&tree, SLOTS), Reading { limit: 1000, trouble });
                tree.set(A, "500\n");
                assert_eq!(chain.reread(&tree), WELL(500), "what is held is read nevertheless");
            }
            let (tree, mut chain) = two_groups();
            tree.close_all();
            [A, B].iter().for_each(|path| tree.refuse(path, errno));
            let trouble = Some(Unknown::Refused(errno));
            assert_eq!(chain.resolve(&tree, SLOTS), Reading { limit: 1000, trouble });
            [A, B].iter().for_each(|path| tree.refuse(path, 0));
            assert_eq!(chain.resolve(&tree, SLOTS), WELL(1000));
            let one = Tree::one("/a", "/");
            let path = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes";
            one.set(path, "7\n");
            let mut chain = Chain::EMPTY;
            assert_eq!(chain.resolve(&one, SLOTS), WELL(7));
            one.close_all();
            one.refuse(path, errno);
            assert_eq!(chain.resolve(&one, SLOTS), Reading { limit: 7, trouble });
        }
    }

    #[test]
    fn one_refused_file_keeps_its_own_last_limit_and_the_others_go_on() {
        let (tree, mut chain) = two_groups();
        tree.close_all();
        tree.refuse(A, libc::EACCES);
        tree.set(B, "300\n");
        let trouble = Some(Unknown::Refused(libc::EACCES));
        assert_eq!(chain.resolve(&tree, SLOTS), Reading { limit: 300, trouble }, "lowered");
        tree.set(B, "5000\n");
        assert_eq!(
            chain.resolve(&tree, SLOTS),
            Reading { limit: 1000, trouble },
            "as the one refused last said"
        );
        tree.set(A, "what?\n");
        tree.refuse(A, 0);
        let trouble = Some(Unknown::Malformed);
        assert_eq!(
            chain.resolve(&tree, SLOTS),
            Reading { limit: 1000, trouble },
            "no number says nothing, too"
        );
        tree.set(A, "max\n");
        assert_eq!(chain.resolve(&tree, SLOTS), WELL(5000), "max does");
        tree.remove(B);
        assert_eq!(chain.resolve(&tree, SLOTS), WELL(NONE), "and so does a file that is gone");
    }

    #[test]
    fn a_limit_does_not_rise_while_one_is_not_known_at_all() {
        let (tree, mut chain) = two_groups();
        tree.refuse(TOP, libc::EACCES);
        let trouble = Some(Unknown::Refused(libc::EACCES));
        assert_eq!(chain.resolve(&tree, SLOTS), Reading { limit: 1000, trouble });
        tree.set(A, "4000\n");
        assert_eq!(chain.resolve(&tree, SLOTS), Reading { limit: 1000, trouble });
        assert_eq!(chain.reread(&tree).limit, 1000);
        tree.set(A, "4001\n");
        assert_eq!(chain.reread(&tree).limit, 1000);
        tree.set(A, "400\n");
        assert_eq!(chain.reread(&tree).limit, 400);
        let mut first = Chain::EMPTY;
        assert_eq!(
            first.resolve(&tree, SLOTS),
            Reading { limit: 400, trouble },
            "the first time, what is known"
        );
    }

    #[test]
    fn a_moved_group_is_found_again_and_nothing_else_is_held() {
        let (tree, mut chain) = two_groups();
        tree.set("/proc/self/cgroup", "0::/c\n");
        tree.set("/sys/fs/cgroup/c/memory.high", "9000\n");
        assert_eq!(chain.reread(&tree), WELL(1000), "not where nothing may be opened");
        [A, B].iter().for_each(|path| tree.remove(path));
        assert_eq!(
            chain.reread(&tree),
            Reading { limit: 1000, trouble: Some(Unknown::Refused(ENODEV)) },
            "nor if the old one is gone"
        );
        assert_eq!(chain.resolve(&tree, SLOTS), WELL(9000));
        assert_eq!(tree.held(), ["/sys/fs/cgroup/c/memory.high"]);
        let opened = tree.opened.get();
        assert_eq!(chain.resolve(&tree, SLOTS), WELL(9000));
        assert_eq!(tree.opened.get(), opened + 5, "two of /proc, and three that are not there");
        assert_eq!(chain.reread(&tree), WELL(9000));
        assert_eq!(tree.opened.get(), opened + 5, "reading again opens nothing");
        chain.let_go(&tree);
        assert!(tree.held().is_empty() && chain == Chain::EMPTY);
        assert_eq!(chain.reread(&tree), Reading { limit: NONE, trouble: Some(Unknown::NotHeld) });
    }

    #[test]
    fn a_process_with_another_root_goes_by_what_it_holds() {
        let (tree, mut chain) = two_groups();
        tree.set("/proc/self/mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n");
        tree.set(A, "700\n");
        assert_eq!(chain.resolve(&tree, SLOTS), WELL(700));
        tree.close_all();
        assert_eq!(chain.resolve(&tree, SLOTS).limit, 700, "and keeps what it knew last");
    }

    #[test]
    fn deep_groups_hold_the_nearest_files() {
        let file = |depth: usize| format!("/sys/fs/cgroup{}/memory.max", "/x".repeat(depth));
        let tree = Tree::two(&"/x".repeat(20), "/");
        (0..=20).for_each(|depth| tree.set(&file(depth), &format!("{}\n", 100 + depth)));
        let mut chain = Chain::EMPTY;
        assert_eq!(chain.resolve(&tree, SLOTS), WELL(100));
        assert_eq!(tree.held().len(), SLOTS);
        tree.set(&file(20), "50\n");
        assert_eq!(chain.reread(&tree), WELL(50));
        tree.set(&file(20), "99999\n");
        tree.set(&file(0), "10\n");
        assert_eq!(chain.reread(&tree), WELL(100), "that far up it is read where files may be opened");
        assert_eq!(chain.resolve(&tree, SLOTS), WELL(10));
        tree.refuse(&file(0), libc::EMFILE);
        let trouble = Some(Unknown::Refused(libc::EMFILE));
        assert_eq!(chain.resolve(&tree, SLOTS), Reading { limit: 10, trouble });
    }

    #[test]
    fn the_nearest_pressure_file_is_found() {
        let path = |tree: &Tree| {
            hold_pressure(tree, SLOTS).map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap())
        };
        let tree = Tree::two("/a", "/");
        assert_eq!(path(&tree), None);
        let tree = tree.with("/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
        assert_eq!(path(&tree).as_deref(), Some("/proc/pressure/memory"));
        let tree = tree.with("/sys/fs/cgroup/a/memory.pressure", "");
        assert_eq!(path(&tree).as_deref(), Some("/sys/fs/cgroup/a/memory.pressure"));
        let deep = Tree::two(&format!("/a/{}", "x".repeat(490)), "/")
            .with("/sys/fs/cgroup/a/memory.pressure", "")
            .with("/proc/pressure/memory", "");
        assert_eq!(path(&deep).as_deref(), Some("/sys/fs/cgroup/a/memory.pressure"), "the file does not fit");
    }

    #[test]
    fn pressure_is_read() {
        assert_eq!(parse_pressure(b"some avg10=12.34 avg60=0.29 avg300=0.14 total=1491796"), Some(1234));
        assert_eq!(parse_pressure(b"some avg10=100.00"), Some(10_000));
        for line in [
            "",
            "full avg10=1.00",
            "some",
            "some avg60=1.00",
            "some avg10=1",
            "some avg10=1.0",
            "some avg10=-1.00",
            "some avg10=101.00",
            "some avg10=99999999999.00",
            "some avg10=+1.00",
        ] {
            assert_eq!(parse_pressure(line.as_bytes()), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(line in proptest::collection::vec(any::<u8>(), 0..120), words in "[0-9: /a-z,.=%-]{0,80}") {
            for line in [line.as_slice(), words.as_bytes()] {
                let _ = (parse_limit(line), parse_pressure(line), group_of(line), mount_of(line));
                let text = String::from_utf8_lossy(line).into_owned();
                let tree = Tree::two(&text, "/").with("/sys/fs/cgroup/memory.max", &text);
                let _ = (memory_limit(&tree), hold_pressure(&tree, SLOTS));
            }
        }

        #[test]
        fn numbers_come_through(bytes in 0u64..UNLIMITED, depth in 0usize..6) {
            let group = "/x".repeat(depth);
            let tree = Tree::two(&group, "/").with(&format!("/sys/fs/cgroup{group}/memory.max"), &format!("{bytes}\n"));
            prop_assert_eq!(memory_limit(&tree), Ok(Some(bytes)));
        }
    }
}
