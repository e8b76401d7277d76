//! Misuse of the allocator: diagnoses it, prints one line, ends the process.
//!
//! Slow paths find some misuse, the checks of `hardened` all of it; both return it as [`Misused`]. This file looks up what
//! lies at the address. It takes no lock: the process is about to end, and a concurrent change makes the line less exact at
//! worst. Nothing here allocates.

use core::fmt::{self, Write};

use crate::base::sync::Ordering;
use crate::base::units::{PAGE, UnitIndex};
use crate::os::{Os, fatal, held};
use crate::pages::large::DOOMED;
use crate::space::misuse::{Act, Misuse, Misused};
use crate::space::size_class::SizeClass;
use crate::space::span::SpanState;
use crate::space::unit_table::RunKind;
use crate::spans::Spans;

/// What lies at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// No run.
    Nowhere,
    /// A run that is free.
    Free,
    /// A span that begins at a unit.
    Span(UnitIndex, SizeClass, SpanState),
    /// A large block: its first unit and its bytes.
    Large(UnitIndex, usize),
    Region,
}

/// A misuse with all that its line tells.
struct Report {
    act: Act,
    misuse: Misuse,
    addr: usize,
    /// The class that the layout names; `None` for a large block.
    class: Option<SizeClass>,
    place: Place,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = self.addr;
        match (self.act, self.misuse) {
            (Act::Free, Misuse::Twice) => write!(f, "double free of {addr:#x}")?,
            (Act::Free, _) => write!(f, "free of {addr:#x}")?,
            (Act::Realloc, _) => write!(f, "realloc of {addr:#x}")?,
        }
        f.write_str(match (self.act, self.misuse) {
            (Act::Free, Misuse::Twice) => "",
            (Act::Realloc, Misuse::Twice) => ", which is free",
            (_, Misuse::Foreign) => ", which was not allocated here",
            (_, Misuse::NotAStart) => ", which is not the start of a block",
            (_, Misuse::OtherLayout) => " with another layout than it was allocated with",
        })?;
        match self.class {
            Some(class) => write!(f, " (class {} B, ", class.size())?,
            None => f.write_str(" (large block, ")?,
        }
        match self.place {
            Place::Nowhere => f.write_str("no span")?,
            Place::Free => f.write_str("run free")?,
            Place::Region => f.write_str("a region")?,
            Place::Large(_, bytes) => write!(f, "run of {bytes} B")?,
            Place::Span(_, class, state) => {
                f.write_str(match state {
                    SpanState::None => "span gone",
                    SpanState::Owned => "span owned",
                    SpanState::Listed => "span listed",
                    SpanState::Full => "span full",
                })?;
                if self.class != Some(class) {
                    write!(f, " of class {} B", class.size())?;
                }
            }
        }
        f.write_str(")")
    }
}

/// Ends a debug build's process, with one line on stderr, if the calling thread holds a lock of the heap: what allocates,
/// frees or calls a user's code then could wait for itself. A release build does not look.
#[inline]
#[doc(hidden)]
pub fn assert_unlocked(what: &str) {
    if held() > 0 {
        locked(what);
    }
}

#[cold]
#[inline(never)]
fn locked(what: &str) -> ! {
    let mut line = Line { bytes: [0; Line::ROOM], len: 0 };
    // As in `end`.
    let _ = writeln!(line, "ebbtide: {what}, on a thread that holds a lock of the heap");
    fatal(line.bytes.get(..line.len).unwrap_or_default())
}

/// Ends the process for a misuse, with one line on stderr.
#[cold]
#[inline(never)]
pub(crate) fn end<O: Os>(spans: &Spans<O>, misused: Misused) -> ! {
    let Misused { act, misuse, addr, class } = misused;
    let place = place(spans, addr);
    let misuse = misuse.unwrap_or_else(|| match place {
        Place::Nowhere => Misuse::Foreign,
        Place::Free => Misuse::Twice,
        Place::Region => Misuse::NotAStart,
        Place::Large(run, _) => misuse_of_large(spans, run, addr),
        Place::Span(span, of_span, _) => misuse_of_slot(spans, span, of_span, addr, class),
    });
    let mut line = Line { bytes: [0; Line::ROOM], len: 0 };
    // What does not fit is left out; the longest report does.
    let _ = writeln!(line, "ebbtide: {}", Report { act, misuse, addr, class, place });
    spans.os().fatal(line.bytes.get(..line.len).unwrap_or_default())
}

fn misuse_of_large<O: Os>(spans: &Spans<O>, run: UnitIndex, addr: usize) -> Misuse {
    // Relaxed: what another thread changes just now may be missed.
    let segments = spans.segments();
    let doomed = segments.meta(run).pinned.load(Ordering::Relaxed) == DOOMED;
    match segments.address(run).as_ptr() as usize == addr {
        false => Misuse::NotAStart,
        true if doomed => Misuse::Twice,
        true => Misuse::OtherLayout,
    }
}

fn misuse_of_slot<O: Os>(
    spans: &Spans<O>,
    span: UnitIndex,
    of_span: SizeClass,
    addr: usize,
    class: Option<SizeClass>,
) -> Misuse {
    let segments = spans.segments();
    let Some(place) = segments.slot_at(of_span, addr).filter(|place| place.is_start) else {
        return Misuse::NotAStart;
    };
    let record = segments.span(span);
    let (word, bit) = place.bit();
    let live = record.live.look(word) & !record.look(word);
    // A slot that is live and of this class was free when the misuse was found, and has a new owner since.
    if live & bit != 0 && class != Some(of_span) { Misuse::OtherLayout } else { Misuse::Twice }
}

/// What lies at an address.
fn place<O: Os>(spans: &Spans<O>, addr: usize) -> Place {
    let segments = spans.segments();
    let Some(unit) = segments.unit_of(addr) else { return Place::Nowhere };
    let known = |unit: UnitIndex| segments.is_committed(unit);
    let mut head = unit;
    while known(head) && segments.meta(head).kind() == RunKind::Body && head.0 > 0 {
        head = UnitIndex(head.0 - 1);
    }
    // Units that were never used have no head, or that of a run which ends before them.
    if !known(head) || unit.0 - head.0 >= segments.meta(head).len() {
        return Place::Nowhere;
    }
    let meta = segments.meta(head);
    match meta.kind() {
        RunKind::Body | RunKind::Lost => Place::Nowhere,
        RunKind::Free | RunKind::Leaving => Place::Free,
        RunKind::Region => Place::Region,
        RunKind::Large => Place::Large(head, meta.owned_pages() * PAGE),
        RunKind::Small => match segments.span(head).class_and_state() {
            (_, SpanState::None) => Place::Free,
            (class, state) => Place::Span(head, class, state),
        },
    }
}

/// One line of text on the stack.
struct Line {
    bytes: [u8; Self::ROOM],
    len: usize,
}

impl Line {
    const ROOM: usize = 192;
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
