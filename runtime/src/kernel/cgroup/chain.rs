//! [`Chain`]: the limits of all groups from the process's own upwards, and what each file said last.
//!
//! Invariant: a limit is forgotten only if its file is not there any more or the group has none above it; a file that
//! cannot be read, for want of descriptors or rights, keeps its last limit. Plain data. No locks.

use super::files::{Files, Unknown};
use super::path::Path;
use super::place::{Places, Version, places};
use crate::policy::limit::NONE;

/// Files that are held open, at most: of version 2 eight groups, the nearest ones. Groups above those are read only where
/// files may be opened.
pub(crate) const SLOTS: usize = 16;

/// A file of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The number of its path; 0: the slot is free.
    pub(crate) name: u64,
    /// What it said last.
    pub(crate) limit: u64,
}

impl Entry {
    const FREE: Self = Self { name: 0, limit: NONE };
}

/// The files that are followed. That of the entry at an index is held, if it could be opened, in the slot of that index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) entries: [Entry; SLOTS],
    /// The least limit of those that have no slot.
    pub(crate) beyond: u64,
    /// The limit of all together.
    pub(crate) limit: u64,
    /// Whether some file was refused of which no limit is known, or none was looked for yet.
    pub(crate) lost: bool,
}

/// What a reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The limit in bytes, [`NONE`] if there is none.
    pub(crate) limit: u64,
    /// Why a part of it is an earlier one, or missing.
    pub(crate) trouble: Option<Unknown>,
}

impl Chain {
    /// Nothing is known.
    pub(crate) const EMPTY: Self =
        Self { entries: [Entry::FREE; SLOTS], beyond: NONE, limit: NONE, lost: true };

    /// The limit in bytes, [`NONE`] if there is none; nothing if that is not known.
    pub(crate) fn known(&self) -> Option<u64> {
        (self.limit != NONE || !self.lost).then_some(self.limit)
    }

    /// Finds the process's groups and reads their limits, holding up to `slots` files.
    ///
    /// What is refused keeps its last limit, and where none is known, the whole keeps it: it may be less than the rest says.
    pub(crate) fn resolve(&mut self, files: &impl Files, slots: usize) -> Reading {
        let places = match places(files) {
            Ok(places) => places,
            Err(trouble) => return Reading { limit: self.limit, trouble: Some(trouble) },
        };
        if places.iter().all(Option::is_none) {
            // Perhaps not any more: the process may have another root now. What is held still tells, and else the last limit
            // stays.
            self.reread(files);
            return Reading { limit: self.limit, trouble: None };
        }
        self.drop_others(files, &places);
        let mut walk = Walk { limit: NONE, beyond: NONE, trouble: None, lost: false };
        each_file(&places, &mut |path| self.visit(files, slots, path, &mut walk));
        (self.beyond, self.lost) = (walk.beyond, walk.lost);
        self.change_to(walk.limit);
        Reading { limit: self.limit, trouble: walk.trouble }
    }

    /// Reads the files that are held again. It opens nothing.
    pub(crate) fn reread(&mut self, files: &impl Files) -> Reading {
        let (mut changed, mut trouble) = (false, None);
        for (slot, entry) in self.entries.iter_mut().enumerate().filter(|(_, entry)| entry.name != 0) {
            match held_limit(files, slot) {
                Ok(limit) => {
                    changed |= limit != entry.limit;
                    entry.limit = limit;
                }
                Err(refused) => trouble = Some(refused),
            }
        }
        if self.entries.iter().all(|entry| entry.name == 0) {
            trouble = Some(Unknown::NotHeld);
        }
        if changed {
            let held = self.entries.iter().map(|entry| entry.limit);
            self.change_to(held.fold(self.beyond, u64::min));
        }
        Reading { limit: self.limit, trouble }
    }

    /// What is known says `limit`. That is not all while a part is missing: then the limit does not rise.
    fn change_to(&mut self, limit: u64) {
        self.limit = if self.lost { limit.min(self.limit) } else { limit };
    }

    /// Holds nothing any more.
    pub(crate) fn let_go(&mut self, files: &impl Files) {
        for (slot, _) in self.entries.iter().enumerate().filter(|(_, entry)| entry.name != 0) {
            files.let_go(slot);
        }
        *self = Self::EMPTY;
    }

    /// Lets go of the files that are not of these groups: the process was moved.
    fn drop_others(&mut self, files: &impl Files, places: &Places) {
        let mut wanted = [false; SLOTS];
        each_file(places, &mut |path| {
            if let Some(slot) = self.slot_of(path.number())
                && let Some(wanted) = wanted.get_mut(slot)
            {
                *wanted = true;
            }
        });
        for (slot, entry) in self.entries.iter_mut().enumerate() {
            if entry.name != 0 && !wanted.get(slot).is_some_and(|wanted| *wanted) {
                files.let_go(slot);
                *entry = Entry::FREE;
            }
        }
    }

    fn slot_of(&self, name: u64) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }

    /// Reads one file, of a slot of its own if there is one.
    fn visit(&mut self, files: &impl Files, slots: usize, path: &Path, walk: &mut Walk) {
        let name = path.number();
        let known = self.slot_of(name);
        let Some(slot) = known.or_else(|| self.slot_of(0)).filter(|slot| *slot < slots) else {
            let before = self.beyond;
            let limit = walk.take(limit_in(files, path), Some(before).filter(|before| *before != NONE));
            walk.beyond = walk.beyond.min(limit.unwrap_or(NONE));
            return;
        };
        let held = known.map(|slot| held_limit(files, slot));
        let read = match held {
            Some(Ok(limit)) => Ok(limit),
            _ => files.hold(slot, path).map_err(Unknown::Refused).and_then(|()| held_limit(files, slot)),
        };
        let last = known.and_then(|slot| self.entries.get(slot)).map(|entry| entry.limit);
        let limit = walk.take(read, last);
        if limit.is_none() {
            files.let_go(slot);
        }
        if let Some(entry) = self.entries.get_mut(slot) {
            *entry = limit.map_or(Entry::FREE, |limit| Entry { name, limit });
        }
    }
}

/// What is found on the way up.
struct Walk {
    limit: u64,
    beyond: u64,
    trouble: Option<Unknown>,
    /// Whether some limit is not known at all.
    lost: bool,
}

impl Walk {
    /// Counts what a file says, or what it `last` said if it cannot be read. `None` if there is no such file, or nothing is
    /// known of it.
    fn take(&mut self, read: Result<u64, Unknown>, last: Option<u64>) -> Option<u64> {
        let limit = match read {
            Ok(limit) => Some(limit),
            Err(refused) if refused.means_none() => None,
            Err(refused) => {
                self.trouble = self.trouble.or(Some(refused));
                self.lost |= last.is_none();
                last
            }
        };
        self.limit = self.limit.min(limit.unwrap_or(NONE));
        limit
    }
}

/// Calls `each` with every file that may hold a limit, the nearest ones first.
fn each_file(places: &Places, each: &mut dyn FnMut(&Path)) {
    for (version, place) in Version::ALL.into_iter().zip(places) {
        let Some(mut place) = *place else { continue };
        loop {
            for name in version.limits() {
                if let Some(file) = Path::of(&[place.path.as_bytes(), name]) {
                    each(&file);
                }
            }
            if !place.path.cut(place.root) {
                break;
            }
        }
    }
}

/// What the file that is held in a slot says.
fn held_limit(files: &impl Files, slot: usize) -> Result<u64, Unknown> {
    let mut text = [0; 64];
    let len = files.read_held(slot, &mut text).map_err(Unknown::Refused)?;
    let text = text.get(..len).unwrap_or_default();
    parse_limit(text.strip_suffix(b"\n").unwrap_or(text))
}

/// What a file says that is opened for that.
fn limit_in(files: &impl Files, path: &Path) -> Result<u64, Unknown> {
    let (mut limit, mut lines) = (Err(Unknown::Malformed), 0);
    let read = files.each_line(path, &mut |line| {
        lines += 1;
        limit = if lines == 1 { parse_limit(line) } else { Err(Unknown::Malformed) };
    });
    read.map_err(Unknown::Refused).and(limit)
}

/// From this many bytes on a limit of version 1 means none: the kernel writes the largest number of pages.
pub(super) const UNLIMITED: u64 = 1 << 60;

/// `max`, or a number of bytes. [`NONE`] for none.
pub(super) fn parse_limit(line: &[u8]) -> Result<u64, Unknown> {
    if line == b"max" {
        return Ok(NONE);
    }
    let digits = !line.is_empty() && line.iter().all(u8::is_ascii_digit);
    let text = core::str::from_utf8(line).ok().filter(|_| digits).ok_or(Unknown::Malformed)?;
    // More than 64 bits: more than there is.
    let bytes = text.parse().unwrap_or(NONE);
    Ok(if bytes >= UNLIMITED { NONE } else { bytes })
}
