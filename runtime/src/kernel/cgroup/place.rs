//! Where the control group of this process is: the folder of each version, found in two files of `/proc`. No locks.
//!
//! `/proc/self/cgroup` names the group, `/proc/self/mountinfo` what of the hierarchy is mounted where. Both are written as
//! seen from the name space of groups that the reader is in: `/` is the root of that, `/..` lies above it, and there the
//! names are hidden. Several mounts may show different parts of one hierarchy.

use super::files::{Files, Unknown};
use super::path::Path;

/// A version of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

impl Version {
    pub(super) const ALL: [Self; 2] = [Self::One, Self::Two];

    /// The names of the files that hold a limit.
    pub(super) const fn limits(self) -> &'static [&'static [u8]] {
        match self {
            Self::One => &[b"/memory.limit_in_bytes"],
            Self::Two => &[b"/memory.max", b"/memory.high"],
        }
    }
}

/// The folder of a group.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) path: Path,
    /// The length of the mount point that it lies below: groups above that are out of sight.
    pub(super) root: usize,
    fit: Fit,
}

impl Place {
    /// A file of the group, or of the nearest one above where its path is not too long.
    pub(super) fn nearest_file(mut self, name: &[u8]) -> Option<Path> {
        loop {
            let file = Path::of(&[self.path.as_bytes(), name]);
            if file.is_some() || !self.path.cut(self.root) {
                return file;
            }
        }
    }
}

/// The folder of each version, as far as there is one.
pub(super) type Places = [Option<Place>; 2];

/// Finds both. `Ok` with none of them if no hierarchy that counts memory is mounted.
pub(super) fn places(files: &impl Files) -> Result<Places, Unknown> {
    let mut groups: [Option<Path>; 2] = [None, None];
    let read = files.each_line(&proc(b"cgroup"), &mut |line| {
        if let Some((version, group)) = group_of(line)
            && let Some(path) = Path::nearest(b"", group)
        {
            groups[version as usize] = Some(path);
        }
    });
    read.map_err(Unknown::NoProc)?;
    let mut places: Places = [None, None];
    let read = files.each_line(&proc(b"mountinfo"), &mut |line| {
        if let Some(mount) = mount_of(line)
            && let Some(group) = &groups[mount.version as usize]
            && let Some(place) = place_in(&mount, group.as_bytes())
        {
            let best = &mut places[mount.version as usize];
            // Of two that are as good the later: it may lie over the other.
            if best.is_none_or(|best| place.fit >= best.fit) {
                *best = Some(place);
            }
        }
    });
    read.map_err(Unknown::NoProc)?;
    Ok(places)
}

pub(super) fn proc(name: &[u8]) -> Path {
    Path::of(&[b"/proc/self/", name]).unwrap_or(Path::new())
}

/// The group that a line of `/proc/self/cgroup` names, if it has to do with memory: `0::/path` of version 2, or
/// `7:memory:/path` of version 1.
pub(super) fn group_of(line: &[u8]) -> Option<(Version, &[u8])> {
    let mut fields = line.splitn(3, |byte| *byte == b':');
    let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    if number == b"0" && controllers.is_empty() {
        return Some((Version::Two, path));
    }
    let memory = controllers.split(|byte| *byte == b',').any(|name| name == b"memory");
    memory.then_some((Version::One, path))
}

/// A mounted hierarchy that limits memory.
pub(super) struct Mount {
    version: Version,
    /// What of the hierarchy is mounted. `None` if its path is too long to tell.
    root: Option<Path>,
    point: Path,
}

/// The hierarchy that a line of `/proc/self/mountinfo` mounts.
pub(super) fn mount_of(line: &[u8]) -> Option<Mount> {
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
    Some(Mount { version, root: Path::unescaped(root), point: Path::unescaped(point)? })
}

/// How a group lies to what is mounted, from the worst to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// Another part of the hierarchy is mounted, as far as the names tell. What the mount point says is taken for want of
    /// better: names from outside a container may not match those inside, and a soft limit that is too low costs a share
    /// of the time, where one that is missing costs the process.
    Elsewhere,
    /// A group above is mounted, with hidden names between: its limit holds for this process, too.
    Above,
    /// The group lies below so many bytes of what is mounted. The fewer, the more of the groups above are in sight.
    Below(core::cmp::Reverse<usize>),
}

/// The folder of `group` in a mount.
fn place_in(mount: &Mount, group: &[u8]) -> Option<Place> {
    let point = without_slash(mount.point.as_bytes());
    let Some(mounted) = mount.root.as_ref().map(Path::as_bytes) else {
        return Some(Place { path: Path::of(&[point])?, root: point.len(), fit: Fit::Elsewhere });
    };
    let (root_climbs, root) = climbs(without_slash(mounted));
    let (climbs, group) = climbs(without_slash(group));
    let below = group.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
    let below = below.filter(|rest| climbs == root_climbs && !rest.split(is_slash).any(|name| name == b".."));
    let (fit, below) = match below {
        Some(below) => (Fit::Below(core::cmp::Reverse(mounted.len())), below),
        None if root_climbs > climbs && root.is_empty() => (Fit::Above, [].as_slice()),
        None => (Fit::Elsewhere, [].as_slice()),
    };
    Some(Place { path: Path::nearest(point, below)?, root: point.len(), fit })
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// How often a path goes up at its beginning, and the rest of it.
fn climbs(path: &[u8]) -> (usize, &[u8]) {
    let (mut times, mut rest) = (0, path);
    while let Some(behind) =
        rest.strip_prefix(b"/..").filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
    {
        (times, rest) = (times + 1, behind);
    }
    (times, rest)
}

#[cfg(test)]
mod tests {
    use super::super::fake::Tree;
    use super::*;

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
            assert!(mount_of(line.as_bytes()).is_none(), "{line:?}");
        }
    }

    /// Where the group is, of version 2, among mounts of (root, point).
    fn found(group: &str, mounts: &[(&str, &str)]) -> String {
        let tree = Tree::mounted(group, mounts);
        let place = places(&tree).expect("readable")[Version::Two as usize].expect("mounted");
        String::from_utf8(place.path.as_bytes().to_vec()).expect("text")
    }

    #[test]
    fn of_several_mounts_the_one_that_shows_the_group_counts() {
        let other = ("/other", "/mnt/other");
        for mounts in [[other, ("/", "/sys/fs/cgroup")], [("/", "/sys/fs/cgroup"), other]] {
            assert_eq!(found("/a/b", &mounts), "/sys/fs/cgroup/a/b");
        }
        let parts = [("/a", "/mnt/a"), ("/", "/sys/fs/cgroup"), ("/a/b", "/mnt/b")];
        assert_eq!(found("/a/b/c", &parts), "/sys/fs/cgroup/a/b/c", "with all that is above it");
        assert_eq!(found("/a/b/c", &[other, ("/a/b", "/b"), ("/a/bc", "/bc")]), "/b/c");
        assert_eq!(found("/a", &[("/", "/one"), ("/", "/two")]), "/two/a", "the later lies over the other");
        assert_eq!(found("/x", &[("/", "/x y"), other]), "/x y/x");
        assert_eq!(found("/x", &[other]), "/mnt/other", "for want of better");
    }

    #[test]
    fn a_group_with_a_long_path_counts_as_the_nearest_above() {
        let mounts = [("/", "/sys/fs/cgroup")];
        // "/sys/fs/cgroup" has 14 bytes, and a path 511 at most.
        let name = |len: usize| format!("/{}", "y".repeat(len - 1));
        assert_eq!(found(&("/a".to_owned() + &name(495)), &mounts).len(), 511, "fits");
        for len in [496, 497, 508, 509, 510, 600, 2000] {
            let group = "/a".to_owned() + &name(len);
            assert_eq!(found(&group, &mounts), "/sys/fs/cgroup/a", "{len}");
            assert_eq!(found(&(group + "/b"), &mounts), "/sys/fs/cgroup/a", "{len}");
        }
        let fits = "/sys/fs/cgroup/a".to_owned() + &name(495);
        assert_eq!(found(&format!("/a{}/b", name(495)), &mounts), fits, "cut behind a whole name");
        assert_eq!(found(&name(600), &mounts), "/sys/fs/cgroup");
        let deep = "/0123456".repeat(100);
        assert_eq!(found(&deep, &mounts), format!("/sys/fs/cgroup{}", "/0123456".repeat(62)));
        assert_eq!(found(&deep, &[("/0123456", "/own")]), format!("/own{}", "/0123456".repeat(62)));
        assert_eq!(found(&name(300), &[("/", &name(300))]), name(300), "the mount point is long, too");
        assert_eq!(found("/a", &[(&name(600), "/x")]), "/x", "and so may be what is mounted there");
    }

    #[test]
    fn name_spaces_hide_what_lies_above() {
        let outside = ("/../..", "/host");
        assert_eq!(found("/", &[outside, ("/", "/own")]), "/own");
        assert_eq!(found("/a", &[("/", "/own"), outside]), "/own/a");
        assert_eq!(
            found("/a", &[outside]),
            "/host",
            "names between are hidden, and its limit holds nevertheless"
        );
        assert_eq!(found("/a", &[("/x", "/x"), outside, ("/y", "/y")]), "/host");
        // A process outside of the root of its name space.
        assert_eq!(found("/../x", &[("/..", "/host"), ("/", "/inside")]), "/host/x");
        assert_eq!(found("/../x", &[("/inside", "/inside"), ("/../x", "/mine")]), "/mine");
        assert_eq!(found("/../x", &[("/../y", "/y"), ("/../..", "/host")]), "/host");
        assert_eq!(found("/..x", &[("/", "/own")]), "/own/..x", "a name that begins with dots");
        assert_eq!(found("/a/../b", &[("/", "/own")]), "/own", "no path of a group");
    }
}
