//! [`HashMap::verify`]: a walk that checks all invariants of a map. For tests.

use core::hash::{BuildHasher, Hash};

use super::HashMap;

impl<K: Eq + Hash, V, S: BuildHasher> HashMap<K, V, S> {
    /// Checks all invariants. O(capacity). The hasher must be right; [`verify_counts`](Self::verify_counts) does
    /// without.
    ///
    /// # Panics
    /// If one does not hold.
    #[doc(hidden)]
    pub fn verify(&self) {
        self.verify_counts();
        let mut visited = 0;
        for (key, _) in self {
            visited += 1;
            let (found, _) = self.get_key_value(key).expect("a lookup finds each entry");
            assert!(core::ptr::eq(found, key), "a key is in the map twice");
        }
        assert_eq!(visited, self.len());
    }

    /// Checks what holds even if the hasher answers differently each time. O(capacity).
    ///
    /// # Panics
    /// If something does not hold.
    #[doc(hidden)]
    pub fn verify_counts(&self) {
        self.table.verify_counts();
    }
}
