//! [`Hashing`]: hash functions from good to useless.

use core::hash::{BuildHasher, Hasher};

/// Hashes a `u64` key by spreading it, or as told.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
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

    fn write_u16(&mut self, key: u16) {
        self.key = u64::from(key);
    }
}

impl BuildHasher for Hashing {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { hashing: *self, key: 0 }
    }
}
