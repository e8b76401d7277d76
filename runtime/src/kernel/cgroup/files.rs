//! [`Files`]: the means to read files of control groups, and [`Unknown`]: why a limit is not known. No locks.

use super::path::Path;
use crate::kernel::files::{ENODEV, ENOENT, ENOTDIR};
use core::fmt;

/// Why a limit is not known. Errors of the kernel are errnos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// `/proc/self/cgroup` or `/proc/self/mountinfo` cannot be read.
    NoProc(i32),
    /// A file of a limit cannot be read.
    Refused(i32),
    /// A file of a limit holds neither a number nor `max`.
    Malformed,
    /// No file is held open.
    NotHeld,
}

impl Unknown {
    /// Whether it says that there is no limit: no such file, or its group is gone. Everything else says nothing.
    pub(super) const fn means_none(self) -> bool {
        matches!(self, Self::Refused(ENOENT | ENOTDIR | ENODEV))
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProc(errno) => {
                write!(f, "cannot read /proc/self/cgroup and /proc/self/mountinfo (errno {errno})")
            }
            Self::Refused(errno) => {
                write!(f, "cannot read a memory limit of the control group (errno {errno})")
            }
            Self::Malformed => f.write_str("a memory limit of the control group is neither a number nor max"),
            Self::NotHeld => f.write_str("no memory limit of the control group is held open"),
        }
    }
}

/// The means to read files. Errors are errnos.
pub(crate) trait Files {
    /// Whether files may be read at all, on a path that did not ask for that.
    fn may_read(&self) -> bool;

    /// Calls `line` with each line of a file that is opened for that, without its end.
    fn each_line(&self, path: &Path, line: &mut dyn FnMut(&[u8])) -> Result<(), i32>;

    /// Opens a file and holds it in a slot, instead of the one before. If it cannot be opened, the one before stays.
    fn hold(&self, slot: usize, path: &Path) -> Result<(), i32>;

    /// Reads the file that is held in a slot from its beginning. Returns how many bytes there are, at most as many as fit.
    fn read_held(&self, slot: usize, buffer: &mut [u8]) -> Result<usize, i32>;

    /// Closes the file in a slot, if there is one.
    fn let_go(&self, slot: usize);
}
