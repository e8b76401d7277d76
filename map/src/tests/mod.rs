//! Tests of the map with small constants, so that few entries reach every branch. What they share is here.

mod bounds;
mod contracts;
mod drops;
mod hashers;
mod model;
mod panics;
mod stats;

use core::hash::{BuildHasher, Hasher};

use crate::HashMap;

/// Hashes a `u64` key by spreading it, or as told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Hashing {
    /// Multiplies and mixes: homes and tags as of a good hasher.
    #[default]
    Spread,
    /// The key is its own hash: keys choose their homes, all tags agree.
    Identity,
    /// All keys have the same hash.
    Constant,
    /// All keys have one home, but different tags.
    OneHome,
    /// Keys share homes by the hundred, at the end of the table.
    Clustered,
}

#[derive(Debug)]
pub(crate) struct KeyHasher {
    hashing: Hashing,
    key: u64,
}

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        let mixed = {
            let folded = u128::from(self.key ^ 0x9e37_79b9_7f4a_7c15) * 0xd1b5_4a32_d192_ed03_u128;
            (folded as u64) ^ ((folded >> 64) as u64)
        };
        match self.hashing {
            Hashing::Spread => mixed,
            Hashing::Identity => self.key,
            Hashing::Constant => 7,
            Hashing::OneHome => mixed & !0xffff_ffff | 5,
            Hashing::Clustered => mixed & !0xffff_ffff | (0xffff_ffff - self.key % 4),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.key = self.key.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.key = key;
    }
}

impl BuildHasher for Hashing {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { hashing: *self, key: 0 }
    }
}

/// A map from key to twice the key.
pub(crate) fn doubled(keys: impl IntoIterator<Item = u64>, hashing: Hashing) -> HashMap<u64, u64, Hashing> {
    let mut map = HashMap::with_hasher(hashing);
    for key in keys {
        map.insert(key, 2 * key);
    }
    map
}

/// Whether the map has two generations.
pub(crate) fn changing<K, V, S>(map: &HashMap<K, V, S>) -> bool {
    map.table.is_changing()
}

/// A map with two generations of which `part` of 8 of the old one is evacuated.
pub(crate) fn split(part: usize) -> HashMap<u64, u64, Hashing> {
    let mut map = doubled(0..113, Hashing::Spread);
    assert!(changing(&map), "128 slots take 112");
    map.rehash_step(part);
    assert_eq!(changing(&map), part < 8 + 1);
    map
}
