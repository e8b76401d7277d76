//! [`Index`]: words and the places where they stand, and the queue in which they expire, oldest first.
//!
//! The lists are compact: a first pass over the text counts ([`Index::expect`]), so that the second one
//! ([`Index::place`]) gives each list its exact size at once and frees nothing. Entries of one age thus lie side by
//! side, and when the old ones have gone, whole pages are empty. Entries deleted at random would leave one live object
//! on nearly every page, which no allocator that cannot move objects can give back.
//!
//! Invariant: `queue` holds each key of `map` once, in the order of insertion. No locks: one thread.

use super::record::Recorder;
use ebbtide::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;

/// Where a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the file.
    pub(crate) file: u32,
    /// The line in it, from 1.
    pub(crate) line: u32,
}

/// The places of one word.
#[derive(Debug, Default)]
struct Postings {
    /// How many places there will be, as far as is known.
    expected: usize,
    places: Vec<Place>,
}

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    map: HashMap<Rc<str>, Postings>,
    queue: VecDeque<Rc<str>>,
    text_bytes: u64,
    places: u64,
}

/// The two counters in front of the text of an `Rc<str>`.
const COUNTERS: u64 = 2 * size_of::<usize>() as u64;

impl Index {
    pub(crate) fn new() -> Self {
        Self { map: HashMap::new().named("words"), queue: VecDeque::new(), text_bytes: 0, places: 0 }
    }

    /// Makes an entry for `word` unless there is one, and expects one more place in it.
    pub(crate) fn expect(&mut self, word: &str, recorder: &mut Recorder) {
        if let Some(postings) = self.map.get_mut(word) {
            postings.expected += 1;
            return;
        }
        let key: Rc<str> = Rc::from(word);
        self.text_bytes += COUNTERS + word.len() as u64;
        self.queue.push_back(Rc::clone(&key));
        let postings = Postings { expected: 1, places: Vec::new() };
        recorder.operation(|| self.map.insert(key, postings));
    }

    /// Notes that `word` stands at `place`. A word that was not expected is none that this index knows: a file may
    /// have changed between the passes.
    pub(crate) fn place(&mut self, word: &str, place: Place) {
        let Some(postings) = self.map.get_mut(word) else { return };
        if postings.places.len() == postings.places.capacity() {
            postings.places.reserve_exact(postings.expected.saturating_sub(postings.places.len()).max(1));
        }
        postings.places.push(place);
        self.places += 1;
    }

    /// Deletes the oldest entries until `keep` are left, one at a time.
    pub(crate) fn expire(&mut self, keep: usize, recorder: &mut Recorder) {
        while self.queue.len() > keep {
            let Some(word) = self.queue.pop_front() else { return };
            let removed = recorder.operation(|| self.map.remove(&word));
            self.text_bytes -= COUNTERS + word.len() as u64;
            self.places -= removed.map_or(0, |postings| postings.places.len() as u64);
        }
    }

    /// The logical shrink: every container drops the capacity that its length does not need.
    pub(crate) fn shrink_to_fit(&mut self, recorder: &mut Recorder) {
        recorder.operation(|| self.map.shrink_to_fit());
        self.queue.shrink_to_fit();
        for postings in self.map.values_mut() {
            postings.places.shrink_to_fit();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.map.capacity()
    }

    /// Bytes that the entries need, whatever capacity their containers have: keys and lists, the map's slots with one
    /// byte of hash each, and their places in the queue.
    pub(crate) fn logical_bytes(&self) -> u64 {
        let slot = size_of::<(Rc<str>, Postings)>() + 1 + size_of::<Rc<str>>();
        self.text_bytes + self.places * size_of::<Place>() as u64 + (self.map.len() * slot) as u64
    }

    /// The places of `word`.
    #[cfg(test)]
    pub(crate) fn places(&self, word: &str) -> &[Place] {
        self.map.get(word).map_or(&[], |postings| &postings.places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(words: &[&str]) -> (Index, Recorder) {
        let (mut index, mut recorder) = (Index::new(), Recorder::new());
        for word in words {
            index.expect(word, &mut recorder);
        }
        for (line, word) in (1..).zip(words) {
            index.place(word, Place { file: 0, line });
        }
        (index, recorder)
    }

    #[test]
    fn words_know_their_places() {
        let (index, _) = filled(&["ebb", "tide", "ebb"]);
        assert_eq!(index.places("ebb"), [Place { file: 0, line: 1 }, Place { file: 0, line: 3 }]);
        assert_eq!(index.len(), 2);
        assert_eq!(index.map["ebb"].places.capacity(), 2, "lists get their exact size");
    }

    #[test]
    fn the_oldest_expire_first() {
        let (mut index, mut recorder) = filled(&["a", "b", "c", "b"]);
        index.expire(1, &mut recorder);
        assert_eq!((index.len(), index.places("c").len()), (1, 1));
        assert!(index.places("b").is_empty());
    }

    #[test]
    fn logical_bytes_follow_the_entries() {
        let (mut index, mut recorder) = filled(&["a", "b", "a"]);
        let (one, _) = filled(&["b"]);
        assert!(index.logical_bytes() > one.logical_bytes());
        index.expire(1, &mut recorder);
        assert_eq!(index.logical_bytes(), one.logical_bytes());
        index.expire(0, &mut recorder);
        assert_eq!(index.logical_bytes(), 0);
    }

    #[test]
    fn shrinking_drops_capacity_and_no_entry() {
        let words: Vec<String> = (0..1000).map(|n| format!("w{n}")).collect();
        let (mut index, mut recorder) = filled(&words.iter().map(String::as_str).collect::<Vec<_>>());
        index.expire(10, &mut recorder);
        index.shrink_to_fit(&mut recorder);
        assert_eq!(index.len(), 10);
        assert!(index.capacity() < 100, "{}", index.capacity());
        assert_eq!(index.places("w999"), [Place { file: 0, line: 1000 }]);
    }
}
