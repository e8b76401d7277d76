//! Attributes idle resident pages to the owners of the regions that left them.
//!
//! Invariant: a free unit with an owner was last used by a region of this owner. No locks: a walk sees a run that changes
//! meanwhile as it was or as it is, as a snapshot does.

use super::Pages;
use crate::base::units::{PAGE, PageMask, UnitIndex};
use crate::os::Os;
use crate::space::unit_table::RunKind;

/// Adjacent idle pages that a region of one owner left resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// The number given to [`Region::set_owner`](crate::Region::set_owner).
    pub owner: u32,
    /// How many bytes of them may be resident: never 0.
    pub bytes: u64,
    /// Whether the region is alive and retired them. Otherwise it was dropped, and they are free memory for any use.
    pub lives: bool,
}

impl<O: Os> Pages<O> {
    /// Writes the owner of a region to each of its units, before the region is freed.
    pub(crate) fn leave_owner(&self, run: UnitIndex) {
        let head = self.segments().meta(run);
        let owner = head.owner();
        if owner != 0 {
            (1..head.len()).for_each(|unit| self.segments().meta(run.plus(unit)).set_owner(owner));
        }
    }

    pub(crate) fn each_kept(&self, visit: &mut impl FnMut(Kept)) {
        self.runs().for_each(|(run, most)| self.kept_in_run(run, most, visit));
    }

    fn kept_in_run(&self, run: UnitIndex, most: u32, visit: &mut impl FnMut(Kept)) {
        let head = self.segments().meta(run);
        let kind = head.kind();
        let lives = kind == RunKind::Region;
        if !lives && !matches!(kind, RunKind::Free | RunKind::Leaving) {
            return;
        }
        let mut row = Kept { owner: 0, bytes: 0, lives };
        for unit in 0..head.len().min(most) {
            let meta = self.segments().meta(run.plus(unit));
            let idle = if lives { self.idle_mask(run, unit) } else { PageMask::MAX };
            let pages = idle & !meta.released();
            let owner = if lives { head.owner() } else { meta.owner() };
            if owner != row.owner {
                pass_on(&mut row, visit);
                row.owner = owner;
            }
            row.bytes += u64::from(pages.count_ones()) * PAGE as u64;
        }
        pass_on(&mut row, visit);
    }
}

fn pass_on(row: &mut Kept, visit: &mut impl FnMut(Kept)) {
    if row.owner != 0 && row.bytes > 0 {
        visit(*row);
    }
    row.bytes = 0;
}
