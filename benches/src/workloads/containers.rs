//! Collections of the standard library that change all the time. One operation is one insertion or removal.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;

use ebbtide_tests::rng::Rng;
use foldhash::fast::FixedState;

use crate::measure::effort::{Effort, Sample};

/// Keys are drawn from twice as many as are held on average.
const KEYS: usize = 200_000;

fn text(rng: &mut Rng) -> String {
    const SOURCE: &str = "the tide goes out and what it leaves behind is smaller than the sea it came from";
    SOURCE[..rng.range(4, SOURCE.len())].to_owned()
}

/// `HashMap<u64, String>`: a key that is there goes, one that is not comes.
pub(super) fn hashmap_churn(effort: Effort) -> Sample {
    let mut rng = Rng::new(11);
    let mut map: HashMap<u64, String, FixedState> = HashMap::default();
    let ops = effort.of(2_000_000);
    Sample::time(ops, || {
        for _ in 0..ops {
            let key = rng.below(KEYS) as u64;
            if map.remove(&key).is_none() {
                map.insert(key, text(&mut rng));
            }
        }
        black_box(&map);
    })
}

/// `BTreeMap<u64, Box<[u64; 4]>>`, likewise.
pub(super) fn btreemap_churn(effort: Effort) -> Sample {
    let mut rng = Rng::new(12);
    let mut map: BTreeMap<u64, Box<[u64; 4]>> = BTreeMap::new();
    let ops = effort.of(1_500_000);
    Sample::time(ops, || {
        for _ in 0..ops {
            let key = rng.below(KEYS) as u64;
            if map.remove(&key).is_none() {
                map.insert(key, Box::new([key; 4]));
            }
        }
        black_box(&map);
    })
}

/// 2,000 strings, each built from one to twelve pieces without knowing its length, then replaced.
pub(super) fn string_churn(effort: Effort) -> Sample {
    const PIECES: [&str; 4] = ["ebb", "tide and flood", "a", "resident memory, "];
    let mut rng = Rng::new(13);
    let mut strings = vec![String::new(); 2000];
    let ops = effort.of(2_000_000);
    Sample::time(ops, || {
        for _ in 0..ops {
            let mut string = String::new();
            for _ in 0..rng.range(1, 12) {
                string.push_str(PIECES[rng.below(PIECES.len())]);
            }
            let at = rng.below(strings.len());
            strings[at] = string;
        }
        black_box(&strings);
    })
}
