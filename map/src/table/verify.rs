//! [`Table::verify_counts`]: a walk that checks all invariants of a table but where entries lie. For tests.

use crate::generation::Generation;
use crate::generation::tag::Tag;
use crate::generation::window::WIDTH;
use crate::table::Table;
use crate::table::change::pacing;

/// Slots of a generation by state.
#[derive(Debug, Default)]
struct Census {
    full: usize,
    empty: usize,
}

/// Counts tags, and checks that copies agree and no byte is another.
fn count<T>(generation: &Generation<T>) -> Census {
    let slots = generation.slots();
    let mut census = Census::default();
    for slot in 0..slots {
        let tag = generation.tag(slot);
        census.full += usize::from(tag.is_full());
        census.empty += usize::from(tag.is_empty());
        assert!(tag.is_full() || tag == Tag::EMPTY || tag == Tag::TOMBSTONE, "tag {tag:?} at {slot}");
    }
    // Windows at the last positions read the copies.
    for position in slots.saturating_sub(WIDTH)..slots {
        let wrapped: u16 = (0..WIDTH)
            .map(|offset| {
                let tag = match position + offset {
                    at if at < slots => generation.tag(at),
                    at if at < WIDTH => Tag::EMPTY,
                    at if slots >= WIDTH => generation.tag(at - slots),
                    at if at - WIDTH < slots => generation.tag(at - WIDTH),
                    _ => Tag::EMPTY,
                };
                u16::from(tag.is_full()) << offset
            })
            .sum();
        assert_eq!(generation.window(position).full().0, wrapped, "copies of tags at {position} of {slots}");
    }
    assert!(slots == 0 || census.empty > 0, "no empty slot: probes would not end");
    census
}

impl<T> Table<T> {
    /// Checks everything that holds whatever the hasher does.
    pub(crate) fn verify_counts(&self) {
        let current = count(&self.current.generation);
        assert_eq!(current.full + self.old_items(), self.items);
        let limit = pacing::load_limit(self.current.generation.slots());
        let used = self.current.generation.slots() - current.empty;
        assert_eq!(self.current.growth_left(), limit - used, "load limit {limit}, used {used}");
        assert!(self.shrink_at == 0 || (!self.is_changing() && self.auto_shrink()));
        assert_eq!(self.is_changing(), self.old().is_some());
        let Some(old) = self.old() else { return };
        assert!(self.current.growth_left() >= old.items, "no room for {} old entries", old.items);
        if old.is_drained_of_entries() {
            return;
        }
        let census = count(&old.generation);
        assert_eq!(census.full, old.items);
        old.verify(census.empty);
    }
}
