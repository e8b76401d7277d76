//! The memory limit of the control group that this process runs in: version 2 (`memory.max`, `memory.high`) and
//! version 1 (`memory.limit_in_bytes`), the least of all groups from the process's own up to the mount point.
//!
//! Parsers over bytes, and a walk that is given the means to read a file, so that tests walk trees that do not exist.
//! Nothing here allocates: it may run on a thread that is allocating. No locks.

use core::fmt;

/// The longest path that is followed. A group below a longer one counts as the nearest group above that is not.
const PATH: usize = 512;
/// From this many bytes on a limit of version 1 means none: the kernel writes the largest number of pages.
const UNLIMITED: u64 = 1 << 60;

/// Why the limit is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// `/proc/self/cgroup` or `/proc/self/mountinfo` cannot be read.
    NoProc,
    /// A file of a limit holds neither a number nor `max`.
    Malformed,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoProc => "cannot read /proc/self/cgroup and /proc/self/mountinfo",
            Self::Malformed => "a memory limit of the control group is neither a number nor max",
        })
    }
}

/// The means to read files.
pub(crate) trait Files {
    /// Calls `line` with each line, without its end. False if the file cannot be read.
    fn each_line(&self, path: &Path, line: &mut dyn FnMut(&[u8])) -> bool;
}

/// A path that needs no heap memory.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    bytes: [u8; PATH],
    len: usize,
}

impl Path {
    const fn new() -> Self {
        Self { bytes: [0; PATH], len: 0 }
    }

    /// `None` if it is too long, or no path.
    fn of(parts: &[&[u8]]) -> Option<Self> {
        let mut path = Self::new();
        for part in parts {
            path.push(part)?;
        }
        Some(path)
    }

    /// One byte stays 0.
    fn push(&mut self, part: &[u8]) -> Option<()> {
        let end = self.len.checked_add(part.len()).filter(|end| *end < PATH)?;
        if part.contains(&0) {
            return None;
        }
        self.bytes.get_mut(self.len..end)?.copy_from_slice(part);
        self.len = end;
        Some(())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// For the kernel: with a 0 at its end.
    pub(crate) fn as_c_str(&self) -> &core::ffi::CStr {
        core::ffi::CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }

    /// The folder above, no shorter than `root` bytes.
    fn cut(&mut self, root: usize) -> bool {
        let Some(at) = self.as_bytes().iter().rposition(|byte| *byte == b'/').filter(|at| *at >= root) else {
            return false;
        };
        if let Some(rest) = self.bytes.get_mut(at..self.len) {
            rest.fill(0);
        }
        self.len = at;
        true
    }
}

/// A version of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    const fn limits(self) -> &'static [&'static [u8]] {
        match self {
            Self::One => &[b"/memory.limit_in_bytes"],
            Self::Two => &[b"/memory.max", b"/memory.high"],
        }
    }
}

/// The limit in bytes; `Ok(None)` if there is none.
pub(crate) fn memory_limit(files: &impl Files) -> Result<Option<u64>, Unknown> {
    let mut groups = [(Version::One, Path::new()), (Version::Two, Path::new())];
    let (mut found, mut least, mut malformed) = ([false; 2], u64::MAX, false);
    let read = files.each_line(&proc(b"cgroup"), &mut |line| {
        if let Some((version, group)) = group_of(line)
            && let Some(path) = Path::of(&[group])
        {
            groups[version as usize].1 = path;
            found[version as usize] = true;
        }
    });
    let mut mounts = [None, None];
    let read = read
        && files.each_line(&proc(b"mountinfo"), &mut |line| {
            if let Some(mount) = mount_of(line) {
                let version = mount.version as usize;
                if found[version] && mounts[version].is_none() {
                    mounts[version] = folder(&mount, groups[version].1.as_bytes());
                }
            }
        });
    if !read {
        return Err(Unknown::NoProc);
    }
    for (version, _) in groups {
        let Some((mut path, root)) = mounts[version as usize] else { continue };
        loop {
            for name in version.limits() {
                match limit_in(files, &path, name) {
                    Some(Ok(limit)) => least = least.min(limit),
                    Some(Err(_)) => malformed = true,
                    None => {}
                }
            }
            if !path.cut(root) {
                break;
            }
        }
    }
    match least {
        u64::MAX if malformed => Err(Unknown::Malformed),
        u64::MAX => Ok(None),
        limit => Ok(Some(limit)),
    }
}

/// The file of memory pressure that concerns this process: its group's, if it has one.
pub(crate) fn pressure_file(files: &impl Files) -> Option<Path> {
    let mut group = None;
    files.each_line(&proc(b"cgroup"), &mut |line| {
        if let Some((Version::Two, path)) = group_of(line) {
            group = Path::of(&[path]);
        }
    });
    let mut place = None;
    files.each_line(&proc(b"mountinfo"), &mut |line| {
        if let (Some(mount), Some(group)) = (mount_of(line), &group)
            && mount.version == Version::Two
            && place.is_none()
        {
            place = folder(&mount, group.as_bytes());
        }
    });
    let of_group = place.and_then(|(path, _)| Path::of(&[path.as_bytes(), b"/memory.pressure"]));
    let of_system = Path::of(&[b"/proc/pressure/memory"]);
    [of_group, of_system].into_iter().flatten().find(|path| files.each_line(path, &mut |_| {}))
}

fn proc(name: &[u8]) -> Path {
    Path::of(&[b"/proc/self/", name]).unwrap_or(Path::new())
}

/// The group that a line of `/proc/self/cgroup` names, if it has to do with memory: `0::/path` of version 2, or
/// `7:memory:/path` of version 1.
fn group_of(line: &[u8]) -> Option<(Version, &[u8])> {
    let mut fields = line.splitn(3, |byte| *byte == b':');
    let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    if number == b"0" && controllers.is_empty() {
        return Some((Version::Two, path));
    }
    let memory = controllers.split(|byte| *byte == b',').any(|name| name == b"memory");
    memory.then_some((Version::One, path))
}

/// A mounted hierarchy that limits memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mount<'a> {
    version: Version,
    /// What of the hierarchy is mounted.
    root: &'a [u8],
    point: &'a [u8],
}

/// The hierarchy that a line of `/proc/self/mountinfo` mounts. Paths with blanks are written with escapes, which no
/// control group needs: such a line names a folder that does not exist, and is passed by later.
fn mount_of(line: &[u8]) -> Option<Mount<'_>> {
    let mut words = line.split(|byte| *byte == b' ');
    let root = words.nth(3)?;
    let point = words.next()?;
    let kind = words.by_ref().skip_while(|word| *word != b"-").nth(1)?;
    let options = words.nth(1)?;
    let version = match kind {
        b"cgroup2" => Version::Two,
        b"cgroup" if options.split(|byte| *byte == b',').any(|option| option == b"memory") => Version::One,
        _ => return None,
    };
    Some(Mount { version, root, point })
}

/// The folder of a group, and the length of the mount point that it lies below. A group that is not below what is mounted
/// is one seen from outside a container: its folder is the mount point.
fn folder(mount: &Mount<'_>, group: &[u8]) -> Option<(Path, usize)> {
    let point = mount.point.strip_suffix(b"/").unwrap_or(mount.point);
    let root = mount.root.strip_suffix(b"/").unwrap_or(mount.root);
    let below = group.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
    let climbs = |rest: &[u8]| rest.split(|byte| *byte == b'/').any(|name| name == b"..");
    let below = below.filter(|rest| !climbs(rest)).unwrap_or_default();
    let below = below.strip_suffix(b"/").unwrap_or(below);
    let path = Path::of(&[point, below]).or_else(|| Path::of(&[point]))?;
    Some((path, point.len()))
}

/// A limit in a folder; `None` if the file cannot be read.
fn limit_in(files: &impl Files, folder: &Path, name: &[u8]) -> Option<Result<u64, Unknown>> {
    let path = Path::of(&[folder.as_bytes(), name])?;
    let mut limit = Err(Unknown::Malformed);
    let mut lines = 0;
    let read = files.each_line(&path, &mut |line| {
        lines += 1;
        limit = if lines == 1 { parse_limit(line) } else { Err(Unknown::Malformed) };
    });
    read.then_some(limit)
}

/// `max`, or a number of bytes. `u64::MAX` for none.
fn parse_limit(line: &[u8]) -> Result<u64, Unknown> {
    if line == b"max" {
        return Ok(u64::MAX);
    }
    let digits = !line.is_empty() && line.iter().all(u8::is_ascii_digit);
    let text = core::str::from_utf8(line).ok().filter(|_| digits).ok_or(Unknown::Malformed)?;
    // More than 64 bits: more than there is.
    let bytes = text.parse().unwrap_or(u64::MAX);
    Ok(if bytes >= UNLIMITED { u64::MAX } else { bytes })
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
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Files that exist nowhere else.
    #[derive(Default)]
    pub(crate) struct Tree(BTreeMap<String, Vec<u8>>);

    impl Tree {
        pub(crate) fn with(mut self, path: &str, content: &str) -> Self {
            self.0.insert(path.to_owned(), content.as_bytes().to_vec());
            self
        }

        pub(crate) fn two(group: &str, root: &str) -> Self {
            let mounts = format!(
                "22 1 0:20 / /proc rw shared:1 - proc proc rw\n30 24 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 \
                 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"
            );
            Self::default()
                .with("/proc/self/cgroup", &format!("0::{group}\n"))
                .with("/proc/self/mountinfo", &mounts)
        }

        fn one(group: &str, root: &str) -> Self {
            let mounts = format!(
                "30 24 0:26 {root} /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                 31 24 0:27 {root} /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
            );
            let groups = format!("5:cpu,cpuacct:/other\n4:memory:{group}\n1:name=systemd:/\n");
            Self::default().with("/proc/self/cgroup", &groups).with("/proc/self/mountinfo", &mounts)
        }
    }

    impl Files for Tree {
        fn each_line(&self, path: &Path, line: &mut dyn FnMut(&[u8])) -> bool {
            let Some(content) = self.0.get(core::str::from_utf8(path.as_bytes()).unwrap()) else {
                return false;
            };
            let lines = content.strip_suffix(b"\n").unwrap_or(content);
            lines.split(|byte| *byte == b'\n').for_each(line);
            true
        }
    }

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
        assert_eq!(memory_limit(&Tree::default()), Err(Unknown::NoProc));
        let no_mounts = Tree::default().with("/proc/self/cgroup", "0::/\n");
        assert_eq!(memory_limit(&no_mounts), Err(Unknown::NoProc));
        assert_eq!(memory_limit(&Tree::two("/a", "/")), Ok(None), "no such files: no limit");
        for content in ["", "-1\n", "1 MiB\n", "12\n13\n", "0x10\n"] {
            let tree = Tree::two("/", "/").with("/sys/fs/cgroup/memory.max", content);
            assert_eq!(memory_limit(&tree), Err(Unknown::Malformed), "{content:?}");
            let tree = tree.with("/sys/fs/cgroup/memory.high", "4096\n");
            assert_eq!(memory_limit(&tree), Ok(Some(4096)), "the other file is well");
        }
        let long =
            Tree::two(&format!("/{}", "x".repeat(600)), "/").with("/sys/fs/cgroup/memory.max", "4096\n");
        assert_eq!(memory_limit(&long), Ok(None));
    }

    #[test]
    fn odd_lines_are_passed_by() {
        for line in ["", "0", "0:", "x", "::", "4:cpu:/", "0:x:/"] {
            assert_eq!(group_of(line.as_bytes()), None, "{line:?}");
        }
        assert_eq!(group_of(b"3:cpu,memory:/a:b"), Some((Version::One, b"/a:b".as_slice())));
        for line in [
            "",
            "1 2 3",
            "30 24 0:26 / /x rw shared:1",
            "30 24 0:26 / /x rw - cgroup cgroup",
            "a b c d e - -",
        ] {
            assert_eq!(mount_of(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn the_nearest_pressure_file_is_found() {
        let path = |tree: &Tree| {
            pressure_file(tree).map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap())
        };
        let tree = Tree::two("/a", "/");
        assert_eq!(path(&tree), None);
        let tree = tree.with("/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
        assert_eq!(path(&tree).as_deref(), Some("/proc/pressure/memory"));
        let tree = tree.with("/sys/fs/cgroup/a/memory.pressure", "");
        assert_eq!(path(&tree).as_deref(), Some("/sys/fs/cgroup/a/memory.pressure"));
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
                let _ = (memory_limit(&tree), pressure_file(&tree));
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
