//! Misuse of the allocator, as the layer that finds it returns it. The heap itself ends the process for it.

use super::size_class::SizeClass;

/// The call that misused the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Free,
    /// A change of size.
    Realloc,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// The block is free already.
    Twice,
    /// The address was never handed out by this heap.
    Foreign,
    /// The address lies inside a block, or between blocks.
    NotAStart,
    /// The block was allocated with another size class, or another number of pages.
    OtherLayout,
}

/// A misuse, as the layer that finds it returns it. Whoever is at the top ends the process for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Misused {
    pub(crate) act: Act,
    /// `None`: to be derived from what lies at the address.
    pub(crate) misuse: Option<Misuse>,
    pub(crate) addr: usize,
    /// The class that the layout names; `None` for a large block.
    pub(crate) class: Option<SizeClass>,
}

impl Misused {
    /// Of a block that is not what it was said to be.
    #[cold]
    pub(crate) const fn of(act: Act, addr: usize, class: Option<SizeClass>) -> Self {
        Self { act, misuse: None, addr, class }
    }

    /// A free of a slot.
    #[cold]
    pub(crate) const fn of_slot(misuse: Misuse, addr: usize, class: SizeClass) -> Self {
        Self { act: Act::Free, misuse: Some(misuse), addr, class: Some(class) }
    }
}
