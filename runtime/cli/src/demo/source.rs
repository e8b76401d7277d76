//! [`Source`]: where the words come from, real text or made up. Both passes over it see the same words in the same
//! order, as long as the files stay as they are.

use super::corpus::Corpus;
use super::index::Place;
use std::fmt::Write as _;

/// Words and their places.
#[derive(Debug)]
pub(crate) enum Source {
    Files(Corpus),
    /// So many different made-up keys, with one to four places each.
    Synthetic(u32),
}

/// Made-up keys between two reports of progress.
const STRIDE: u32 = 1 << 12;

impl Source {
    /// What one whole demo hands to `progress`: two fills of two passes each.
    pub(crate) fn work(&self) -> u64 {
        4 * match self {
            Self::Files(corpus) => corpus.bytes(),
            Self::Synthetic(entries) => u64::from(*entries),
        }
    }

    /// Hands every word to `each`, as often as it stands somewhere.
    pub(crate) fn words(&self, mut each: impl FnMut(&str), progress: impl FnMut(u64)) {
        self.places(|word, _| each(word), progress);
    }

    /// Hands every word with its place to `each`. Returns how many files could not be read.
    pub(crate) fn places(&self, mut each: impl FnMut(&str, Place), mut progress: impl FnMut(u64)) -> u64 {
        match self {
            Self::Files(corpus) => corpus.read(|file, text| {
                for (line, words) in (1..).zip(text.lines()) {
                    words_of(words).for_each(|word| each(word, Place { file, line }));
                }
                progress(text.len() as u64);
            }),
            Self::Synthetic(entries) => {
                let mut key = String::new();
                for number in 0..*entries {
                    key.clear();
                    // A String takes all that is written.
                    let _ = write!(key, "session-{number:08x}");
                    for line in 1..=1 + scrambled(number) % 4 {
                        each(&key, Place { file: number, line });
                    }
                    if number % STRIDE == 0 {
                        progress(u64::from(STRIDE.min(entries - number)));
                    }
                }
                0
            }
        }
    }

    /// What it is, for people: `unreadable` files could not be read.
    pub(crate) fn describe(&self, unreadable: u64) -> String {
        match self {
            Self::Files(corpus) => corpus.describe(unreadable),
            Self::Synthetic(entries) => format!("{entries} made-up keys"),
        }
    }
}

/// Runs of letters, digits and underscores.
fn words_of(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// A number that looks random and is the same in every run: the finalizer of MurmurHash3.
const fn scrambled(number: u32) -> u32 {
    let mut bits = number;
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
    bits ^ (bits >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_identifiers_of_any_script() {
        let words: Vec<&str> = words_of("fn drop(&mut self) -> Étude_2;").collect();
        assert_eq!(words, ["fn", "drop", "mut", "self", "Étude_2"]);
        assert_eq!(words_of(" .,; ").count(), 0);
    }

    #[test]
    fn made_up_keys_differ_and_come_back_the_same() {
        let keys = |source: &Source| {
            let mut keys = Vec::new();
            source.words(|word| keys.push(word.to_owned()), |_| ());
            keys
        };
        let first = keys(&Source::Synthetic(5000));
        assert_eq!(first, keys(&Source::Synthetic(5000)));
        let mut different = first.clone();
        different.dedup();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 5000);
        assert!(
            first.len() > 2 * 5000 && first.len() < 3 * 5000,
            "1 to 4 places, 2.5 on average: {}",
            first.len()
        );
    }

    #[test]
    fn progress_adds_up_to_the_work() {
        let mut done = 0;
        Source::Synthetic(10_000).words(|_| (), |step| done += step);
        assert_eq!(4 * done, Source::Synthetic(10_000).work());
    }
}
