//! The six phases of the demo, and what is measured at the end of each. No locks: one thread, which is the point: a
//! release has the least to reach across.

use super::index::{Index, Place};
use super::progress::Progress;
use super::record::{Recorder, Sample};
use super::source::Source;
use ebbtide::{MemStats, Policy, ReleaseReport};
use std::time::{Duration, Instant};

/// The phases, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// Nothing is indexed yet.
    Start,
    /// All is.
    Filled,
    /// The old entries were deleted one by one.
    Deleted,
    /// The logical shrink: every container was told to drop what it does not need.
    Shrunk,
    /// The physical release.
    Released,
    /// All was indexed once more.
    Refilled,
}

impl Name {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Filled => "filled",
            Self::Deleted => "deleted",
            Self::Shrunk => "shrunk",
            Self::Released => "released",
            Self::Refilled => "refilled",
        }
    }
}

/// What one phase came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) name: Name,
    pub(crate) len: usize,
    pub(crate) capacity: usize,
    pub(crate) logical_bytes: u64,
    /// At the end of the phase.
    pub(crate) stats: MemStats,
    pub(crate) elapsed: Duration,
    /// The longest write to the map; in the released phase, the release.
    pub(crate) longest: Duration,
    /// When it ended, since the first one began.
    pub(crate) end: Duration,
}

/// What the whole run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) policy: Policy,
    pub(crate) phases: Vec<Phase>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) release: ReleaseReport,
    /// What was indexed, for people.
    pub(crate) input: String,
}

impl Outcome {
    /// The phase `name`. Every run has all of them.
    pub(crate) fn phase(&self, name: Name) -> &Phase {
        &self.phases[name as usize]
    }
}

/// A run under way.
struct Run {
    index: Index,
    recorder: Recorder,
    phases: Vec<Phase>,
    phase_begin: Instant,
}

impl Run {
    fn new() -> Self {
        let (index, recorder) = (Index::new(), Recorder::new());
        Self { index, recorder, phases: Vec::with_capacity(6), phase_begin: Instant::now() }
    }

    /// Ends the phase `name` and begins the next.
    fn end(&mut self, name: Name) {
        let elapsed = self.phase_begin.elapsed();
        let (end, stats) = self.recorder.sample();
        self.phases.push(Phase {
            name,
            len: self.index.len(),
            capacity: self.index.capacity(),
            logical_bytes: self.index.logical_bytes(),
            stats,
            elapsed,
            longest: self.recorder.take_longest(),
            end,
        });
        self.phase_begin = Instant::now();
    }

    /// Indexes the whole source. Returns how many of its files could not be read.
    fn fill(&mut self, source: &Source, progress: &Progress) -> u64 {
        source.words(|word| self.index.expect(word, &mut self.recorder), |bytes| progress.advance(bytes));
        let Self { index, recorder, .. } = self;
        source.places(
            |word, place: Place| index.place(word, place),
            |bytes| {
                recorder.tick();
                progress.advance(bytes);
            },
        )
    }
}

/// How many of `len` entries `percent` are, rounded up.
fn share(len: usize, percent: u8) -> usize {
    (len as u128 * u128::from(percent)).div_ceil(100) as usize
}

/// Runs the phases on `source` and keeps the newest `keep` percent of the entries. The policy in force stays as it is.
pub(crate) fn run(source: &Source, keep: u8) -> Outcome {
    let progress = Progress::new(source.work());
    let mut run = Run::new();
    run.end(Name::Start);

    let unreadable = run.fill(source, &progress);
    run.end(Name::Filled);

    run.index.expire(share(run.index.len(), keep), &mut run.recorder);
    run.end(Name::Deleted);

    run.index.shrink_to_fit(&mut run.recorder);
    run.end(Name::Shrunk);

    let release = run.recorder.operation(ebbtide::free_os_memory);
    run.end(Name::Released);

    run.fill(source, &progress);
    run.end(Name::Refilled);
    progress.finish();

    Outcome {
        policy: ebbtide::policy(),
        phases: run.phases,
        samples: run.recorder.into_samples(),
        release,
        input: source.describe(unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::corpus::Corpus;

    fn lens(outcome: &Outcome) -> Vec<usize> {
        outcome.phases.iter().map(|phase| phase.len).collect()
    }

    #[test]
    fn a_share_is_rounded_up_and_stays_in_range() {
        assert_eq!(share(0, 5), 0);
        assert_eq!(share(1, 5), 1);
        assert_eq!(share(1000, 5), 50);
        assert_eq!(share(1000, 0), 0);
        assert_eq!(share(usize::MAX, 100), usize::MAX);
    }

    #[test]
    fn phases_come_in_order_and_keep_what_they_should() {
        let outcome = run(&Source::Synthetic(1000), 5);
        let names: Vec<&str> = outcome.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(names, ["start", "filled", "deleted", "shrunk", "released", "refilled"]);
        assert_eq!(lens(&outcome), [0, 1000, 50, 50, 50, 1000]);
        assert_eq!(outcome.phase(Name::Released).name, Name::Released);
        assert!(outcome.phase(Name::Shrunk).capacity < outcome.phase(Name::Filled).capacity);
        assert!(outcome.phases.is_sorted_by_key(|phase| phase.end));
    }

    #[test]
    fn extremes_of_keep() {
        assert_eq!(lens(&run(&Source::Synthetic(10), 0)), [0, 10, 0, 0, 0, 10]);
        assert_eq!(lens(&run(&Source::Synthetic(10), 100)), [0, 10, 10, 10, 10, 10]);
    }

    #[test]
    fn files_are_indexed_by_word_and_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("poem.txt");
        std::fs::write(&file, "the tide\n\nebbs, the_tide flows: the").expect("written");
        let source = Source::Files(Corpus::named(&[file]).expect("readable"));
        let mut run = Run::new();
        assert_eq!(run.fill(&source, &Progress::new(0)), 0);
        let lines = |word| run.index.places(word).iter().map(|place| place.line).collect::<Vec<_>>();
        assert_eq!(run.index.len(), 5);
        assert_eq!((lines("the"), lines("the_tide"), lines("ebbs")), (vec![1, 3], vec![3], vec![3]));
    }

    #[test]
    fn an_empty_input_has_all_phases() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = Source::Files(Corpus::named(&[folder.path().to_path_buf()]).expect("readable"));
        assert_eq!(lens(&run(&source, 5)), [0; 6]);
    }
}
