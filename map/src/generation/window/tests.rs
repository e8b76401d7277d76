//! Both windows against a loop over bytes.
#![allow(unsafe_code, reason = "windows load through pointers")]

use proptest::prelude::*;

use super::{Matches, WIDTH, portable};
use crate::generation::tag::Tag;

fn expected(bytes: [u8; WIDTH], test: impl Fn(u8) -> bool) -> Matches {
    Matches((0..WIDTH).filter(|&i| test(bytes[i])).map(|i| 1 << i).sum())
}

/// Tags as they occur, and bytes that almost match, to catch carries between bytes.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(1), Just(0x7f), Just(0x80), Just(0x81), Just(0xff), any::<u8>()]
}

proptest! {
    #[test]
    fn windows_agree_with_a_loop(bytes in prop::array::uniform16(byte()), tag in byte()) {
        // SAFETY: the array holds sixteen readable bytes.
        let window = unsafe { portable::Window::load(bytes.as_ptr()) };
        prop_assert_eq!(window.equal(Tag(tag)), expected(bytes, |b| b == tag));
        prop_assert_eq!(window.empty(), expected(bytes, |b| b == 0));
        prop_assert_eq!(window.full(), expected(bytes, |b| b >= 0x80));
        prop_assert_eq!(window.vacant(), expected(bytes, |b| b < 0x80));
        let buried = bytes.map(|b| if b >= 0x80 { 1 } else { b });
        let mut stored = [0_u8; WIDTH];
        // SAFETY: the array holds sixteen writable bytes.
        unsafe { window.store_buried(stored.as_mut_ptr()) };
        prop_assert_eq!(stored, buried);
        #[cfg(target_feature = "sse2")]
        {
            // SAFETY: the array holds sixteen readable bytes.
            let sse2 = unsafe { super::sse2::Window::load(bytes.as_ptr()) };
            prop_assert_eq!(sse2.equal(Tag(tag)), window.equal(Tag(tag)));
            prop_assert_eq!(sse2.empty(), window.empty());
            prop_assert_eq!(sse2.full(), window.full());
            prop_assert_eq!(sse2.vacant(), window.vacant());
            // SAFETY: the array holds sixteen writable bytes.
            unsafe { sse2.store_buried(stored.as_mut_ptr()) };
            prop_assert_eq!(stored, buried);
        }
    }

    #[test]
    fn matches_iterate_over_their_bits(bits in any::<u16>()) {
        let listed: Vec<usize> = Matches(bits).collect();
        let wanted: Vec<usize> = (0..WIDTH).filter(|i| bits >> i & 1 == 1).collect();
        prop_assert_eq!(Matches(bits).any(), !wanted.is_empty());
        prop_assert_eq!(Matches(bits).first(), wanted.first().copied().unwrap_or(WIDTH));
        prop_assert_eq!(Matches(bits).trailing_misses(), wanted.last().map_or(WIDTH, |last| WIDTH - 1 - last));
        prop_assert_eq!(listed, wanted);
    }
}
