//! [`Channel`]: a bounded channel for two or more threads that allocates nothing after it was made.
//!
//! The standard library's channels allocate as they run, which would be measured along with the workload. One lock;
//! batches travel through it, so that its price is spread over hundreds of blocks.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A bounded queue with blocking ends.
#[derive(Debug)]
pub struct Channel<T> {
    /// Never longer than `bound`; its capacity is `bound` from the start.
    queue: Mutex<VecDeque<T>>,
    bound: usize,
    filled: Condvar,
    emptied: Condvar,
}

impl<T> Channel<T> {
    /// A channel that holds at most `bound` items.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        let queue = Mutex::new(VecDeque::with_capacity(bound));
        Self { queue, bound, filled: Condvar::new(), emptied: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item, waiting for room.
    pub fn send(&self, item: T) {
        let mut queue = self.lock();
        while queue.len() == self.bound {
            queue = self.emptied.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.push_back(item);
        self.filled.notify_one();
    }

    /// Takes the oldest item, waiting for one.
    pub fn receive(&self) -> T {
        let mut queue = self.lock();
        loop {
            if let Some(item) = queue.pop_front() {
                self.emptied.notify_one();
                return item;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_across_threads() {
        let channel = Channel::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..1000).for_each(|i| channel.send(i)));
            for i in 0..1000 {
                assert_eq!(channel.receive(), i);
            }
        });
    }
}
