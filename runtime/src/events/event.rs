//! [`Event`]: what the runtime tells subscribers. Plain data, lent for one call.

use crate::policy::limit::Crossing;
use core::fmt;
use ebbtide_alloc::ReleaseReport;
use ebbtide_map::MapEvent;

/// Something that the runtime did or saw. All sizes are in bytes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Idle memory went back to the operating system, or a try at it found none.
    #[non_exhaustive]
    Release {
        /// The how many-th of this process, from 1 on, as in the trace lines.
        number: u64,
        /// Who wanted it.
        cause: ReleaseCause,
        /// What left, what stayed, and why. `rss_before` and `rss_after` are read when the program asked, and otherwise
        /// only while `EBBTIDE_TRACE` shows releases; else 0: a release inside an allocation opens no file.
        report: &'a ReleaseReport,
    },
    /// The memory that counts against the soft limit went past it, or came back below.
    #[non_exhaustive]
    Limit {
        /// Which way.
        crossing: LimitCrossing,
        /// The limit in force.
        limit: u64,
        /// What counts against it now.
        total: u64,
        /// How much of that is idle and could not leave.
        idle: u64,
    },
    /// A map went over to another bucket array: it grew, shrank, or shed tombstones.
    Map(MapEvent<'a>),
}

/// Why a release ran. It prints as the word that ends a trace line.
///
/// # Examples
/// ```
/// assert_eq!(ebbtide::ReleaseCause::Forced.to_string(), "forced");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReleaseCause {
    /// The program asked: [`free_os_memory`](crate::free_os_memory) or [`release`](crate::release).
    Forced,
    /// The [`Policy`](crate::Policy) in force asked.
    Policy,
    /// The soft memory limit asked.
    Limit,
    /// The kernel said that it is short of memory, and the background thread heard it.
    MemoryPressure,
}

impl ReleaseCause {
    /// The word for it, as it prints.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forced => "forced",
            Self::Policy => "policy",
            Self::Limit => "limit",
            Self::MemoryPressure => "memory pressure",
        }
    }
}

impl fmt::Display for ReleaseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Crossing> for LimitCrossing {
    fn from(crossing: Crossing) -> Self {
        match crossing {
            Crossing::Above => Self::Above,
            Crossing::Below => Self::Below,
        }
    }
}

/// Which way the soft limit was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitCrossing {
    /// The total passed the limit although the idle memory that could leave had left: live data needs more.
    Above,
    /// The total is below the limit again.
    Below,
}
