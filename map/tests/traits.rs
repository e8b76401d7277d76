//! Auto traits, and the traits of iterators: where std's maps and sets have one, these have it, for all kinds of keys and
//! values; and where std's have not, neither have these. Variance, too.

use std::cell::Cell;
use std::marker::{PhantomData, PhantomPinned};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::MutexGuard;

use ebbtide_map::{HashMap, HashSet, hash_map, hash_set};

/// Whether a type has a trait, without requiring it.
macro_rules! has {
    ($type:ty: $($trait:tt)+) => {{
        #[allow(dead_code, reason = "one of the two answers")]
        trait Otherwise {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Asked<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code, reason = "one of the two answers")]
        impl<T: ?Sized + $($trait)+> Asked<T> {
            const ANSWER: bool = true;
        }
        let _ = |asked: Asked<$type>| asked.0;
        <Asked<$type>>::ANSWER
    }};
}

/// The same answer for std's type and for ours, for each trait.
macro_rules! same {
    ($found:ident, $($module:ident :: $name:ident $generics:tt;)+) => {
        $(same!(@traits $found, $module, $name, $generics,
            (Send) (Sync) (Unpin) (UnwindSafe) (RefUnwindSafe) (Clone) (std::fmt::Debug) (Default)
            (ExactSizeIterator) (std::iter::FusedIterator) (Eq) (std::fmt::Display) (std::error::Error));)+
    };
    (@traits $found:ident, $module:ident, $name:ident, $generics:tt, $(($($trait:tt)+))+) => {
        $(same!(@one $found, $module, $name, $generics, ($($trait)+));)+
    };
    (@one $found:ident, $module:ident, $name:ident, ($($generic:tt)+), ($($trait:tt)+)) => {{
        let theirs = has!(std::collections::$module::$name<$($generic)+>: $($trait)+);
        let ours = has!($module::$name<$($generic)+>: $($trait)+);
        if ours != theirs {
            let name = concat!(stringify!($module), "::", stringify!($name<$($generic)+>), ": ", stringify!($($trait)+));
            $found.push(format!("{name}: std {theirs}, here {ours}"));
        }
    }};
}

/// All types of the maps, for a kind of keys and of values.
macro_rules! same_maps {
    ($found:ident, $k:ty, $v:ty) => {
        same! { $found,
            hash_map::HashMap($k, $v, u8);
            hash_map::HashMap(u8, u8, $k);
            hash_map::Iter('static, $k, $v);
            hash_map::IterMut('static, $k, $v);
            hash_map::IntoIter($k, $v);
            hash_map::Keys('static, $k, $v);
            hash_map::Values('static, $k, $v);
            hash_map::ValuesMut('static, $k, $v);
            hash_map::IntoKeys($k, $v);
            hash_map::IntoValues($k, $v);
            hash_map::Drain('static, $k, $v);
            hash_map::ExtractIf('static, $k, $v, fn(&$k, &mut $v) -> bool);
            hash_map::ExtractIf('static, u8, $v, $k);
            hash_map::Entry('static, $k, $v);
            hash_map::OccupiedEntry('static, $k, $v);
            hash_map::VacantEntry('static, $k, $v);
        }
    };
}

macro_rules! same_sets {
    ($found:ident, $t:ty) => {
        same! { $found,
            hash_set::HashSet($t, u8);
            hash_set::HashSet(u8, $t);
            hash_set::Iter('static, $t);
            hash_set::IntoIter($t);
            hash_set::Drain('static, $t);
            hash_set::ExtractIf('static, $t, fn(&$t) -> bool);
            hash_set::Intersection('static, $t, std::hash::RandomState);
            hash_set::Difference('static, $t, std::hash::RandomState);
            hash_set::SymmetricDifference('static, $t, std::hash::RandomState);
            hash_set::Union('static, $t, std::hash::RandomState);
            hash_set::Union('static, u8, $t);
        }
    };
}

type Guard = MutexGuard<'static, u8>;
type Exclusive = &'static mut u8;

/// A test for each kind of keys and values: Cell is Send alone, Guard is Sync alone, Exclusive is not unwind safe. One
/// function with all of them would take the compiler minutes.
macro_rules! tests {
    ($($name:ident: $same:ident $types:tt;)+) => {
        $(
            #[test]
            fn $name() {
                let mut found = Vec::new();
                tests!(@same found, $same, $types);
                assert!(found.is_empty(), "{}", found.join("\n"));
            }
        )+
    };
    (@same $found:ident, $same:ident, ($($type:ty),+)) => {
        $same!($found, $($type),+);
    };
}

tests! {
    maps_of_plain_data: same_maps(u8, u8);
    maps_of_keys_that_are_send: same_maps(Cell<u8>, u8);
    maps_of_values_that_are_sync: same_maps(u8, Guard);
    maps_of_keys_that_are_exclusive: same_maps(Exclusive, u8);
    maps_of_values_that_are_pinned: same_maps(u8, PhantomPinned);
    sets_of_plain_data: same_sets(u8);
    sets_that_are_send: same_sets(Cell<u8>);
    sets_that_are_sync: same_sets(Guard);
    sets_that_are_pinned: same_sets(PhantomPinned);
}

#[test]
fn the_question_can_be_answered_both_ways() {
    assert!(has!(u8: Send) && !has!(Rc<u8>: Send));
}

type State = std::hash::RandomState;

/// Compiles only if the types are covariant.
#[test]
fn variance() {
    fn map<'a>(map: HashMap<&'static str, &'static str, State>) -> HashMap<&'a str, &'a str, State> {
        map
    }
    fn set<'a>(set: HashSet<&'static str, State>) -> HashSet<&'a str, State> {
        set
    }
    fn iter<'a>(
        iter: hash_map::Iter<'a, &'static str, &'static str>,
    ) -> hash_map::Iter<'a, &'a str, &'a str> {
        iter
    }
    fn keys<'a>(keys: hash_map::Keys<'a, &'static str, u8>) -> hash_map::Keys<'a, &'a str, u8> {
        keys
    }
    fn values<'a>(values: hash_map::Values<'a, u8, &'static str>) -> hash_map::Values<'a, u8, &'a str> {
        values
    }
    fn into_iter<'a>(iter: hash_map::IntoIter<&'static str, u8>) -> hash_map::IntoIter<&'a str, u8> {
        iter
    }
    fn drain<'a>(drain: hash_map::Drain<'static, &'static str, u8>) -> hash_map::Drain<'a, &'a str, u8> {
        drain
    }
    // Keys only: values can be written.
    fn iter_mut<'a>(iter: hash_map::IterMut<'a, &'static str, u8>) -> hash_map::IterMut<'a, &'a str, u8> {
        iter
    }
    fn set_iter<'a>(iter: hash_set::Iter<'a, &'static str>) -> hash_set::Iter<'a, &'a str> {
        iter
    }
    fn set_into_iter<'a>(iter: hash_set::IntoIter<&'static str>) -> hash_set::IntoIter<&'a str> {
        iter
    }
    fn set_drain<'a>(drain: hash_set::Drain<'a, &'static str>) -> hash_set::Drain<'a, &'a str> {
        drain
    }
    fn union<'a>(union: hash_set::Union<'a, &'static str, State>) -> hash_set::Union<'a, &'a str, State> {
        union
    }
    fn both<'a>(
        both: hash_set::Intersection<'a, &'static str, State>,
    ) -> hash_set::Intersection<'a, &'a str, State> {
        both
    }
    fn difference<'a>(
        difference: hash_set::Difference<'a, &'static str, State>,
    ) -> hash_set::Difference<'a, &'a str, State> {
        difference
    }
    fn either<'a>(
        either: hash_set::SymmetricDifference<'a, &'static str, State>,
    ) -> hash_set::SymmetricDifference<'a, &'a str, State> {
        either
    }
    let _ = (map as fn(_) -> _, set as fn(_) -> _, into_iter as fn(_) -> _, set_into_iter as fn(_) -> _);
    let _ = (iter as fn(_) -> _, keys as fn(_) -> _, values as fn(_) -> _, drain as fn(_) -> _);
    let _ = (iter_mut as fn(_) -> _, set_iter as fn(_) -> _, set_drain as fn(_) -> _, union as fn(_) -> _);
    let _ = (both as fn(_) -> _, difference as fn(_) -> _, either as fn(_) -> _);
}

/// Constants, as std's: also in a `static`.
#[test]
fn constant_constructors() {
    static MAP: HashMap<u8, u8, ()> = HashMap::with_hasher(());
    static SET: HashSet<u8, ()> = HashSet::with_hasher(());
    assert!(MAP.is_empty() && SET.is_empty());
}
