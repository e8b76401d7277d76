//! [`Extra`]: what only tables have that are large, named or changing, or were so. No locks.

use super::boxed::try_box;
use super::change::Change;
use crate::generation::error::TryReserveError;
use crate::stats::life::Life;

/// See the module.
#[derive(Debug)]
pub(crate) struct Extra<T> {
    /// The change under way.
    pub(crate) change: Option<Change<T>>,
    /// The capacity that the user asked for: no automatic shrink goes below it.
    pub(crate) floor: usize,
    pub(crate) life: Life,
}

impl<T> Extra<T> {
    pub(crate) fn boxed() -> Result<Box<Self>, TryReserveError> {
        try_box(Self { change: None, floor: 0, life: Life::default() })
    }
}
