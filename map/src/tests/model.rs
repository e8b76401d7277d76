//! Sequences of all operations against std's map and set, with invariants checked after each.

use proptest::prelude::*;

use super::ops::{MapOp, SetOp, run_map, run_set};
use super::{Hashing, ops};

fn key() -> impl Strategy<Value = u16> {
    prop_oneof![0..40_u16, 0..600_u16]
}

/// Writes that fill and empty, so that maps grow and shrink.
fn map_write() -> impl Strategy<Value = MapOp> {
    use MapOp::*;
    prop_oneof![
        8 => (key(), any::<u16>()).prop_map(|(k, v)| Insert(k, v)),
        6 => (key(), 1..150_u8).prop_map(|(k, n)| InsertRun(k, n)),
        2 => (key(), any::<u16>()).prop_map(|(k, v)| TryInsert(k, v)),
        6 => key().prop_map(Remove),
        4 => (key(), 1..200_u8).prop_map(|(k, n)| RemoveRun(k, n)),
        3 => (key(), any::<u16>()).prop_map(|(k, v)| EntryOr(k, v)),
        2 => key().prop_map(EntryRemove),
        2 => (key(), any::<u16>()).prop_map(|(k, v)| EntryInsert(k, v)),
        2 => (key(), any::<u16>()).prop_map(|(k, v)| EntryRef(k, v)),
        2 => key().prop_map(EntryUnused),
        1 => (key(), 0..100_u8).prop_map(|(k, n)| Extend(k, n)),
        1 => (key(), 0..100_u8).prop_map(|(k, n)| ExtendByReference(k, n)),
    ]
}

fn map_op() -> impl Strategy<Value = MapOp> {
    use MapOp::*;
    let few = any::<u8>;
    prop_oneof![
        30 => map_write(),
        2 => key().prop_map(Get),
        2 => (key(), any::<u16>()).prop_map(|(k, v)| GetMut(k, v)),
        2 => prop::array::uniform3(key()).prop_map(GetDisjoint),
        1 => few().prop_map(Iterate),
        1 => any::<u16>().prop_map(IterMut),
        1 => any::<u16>().prop_map(ValuesMut),
        1 => few().prop_map(Retain),
        2 => (few(), few()).prop_map(|(n, stop)| ExtractIf(n, stop)),
        1 => few().prop_map(Drain),
        1 => few().prop_map(ForgetDrain),
        1 => prop_oneof![Just(Clear), Just(Refill), Just(TryReserveTooMuch)],
        2 => Just(Clone),
        1 => (0..600_u16).prop_map(CloneFrom),
        1 => few().prop_map(IntoIter),
        2 => few().prop_map(Reserve),
        1 => Just(ShrinkToFit),
        1 => few().prop_map(ShrinkTo),
        3 => (0..5_u8).prop_map(Step),
        1 => any::<bool>().prop_map(AutoShrink),
        1 => key().prop_map(Compare),
    ]
}

fn set_op() -> impl Strategy<Value = SetOp> {
    use SetOp::*;
    let few = any::<u8>;
    prop_oneof![
        4 => Just(Swap),
        4 => (key(), any::<u16>()).prop_map(|(k, v)| Insert(k, v)),
        8 => (key(), 1..150_u8).prop_map(|(k, n)| InsertRun(k, n)),
        3 => key().prop_map(Remove),
        4 => (key(), 1..200_u8).prop_map(|(k, n)| RemoveRun(k, n)),
        2 => key().prop_map(Take),
        3 => (key(), any::<u16>()).prop_map(|(k, v)| Replace(k, v)),
        2 => (key(), any::<u16>()).prop_map(|(k, v)| GetOrInsert(k, v)),
        2 => (key(), any::<u16>()).prop_map(|(k, v)| GetOrInsertWith(k, v)),
        2 => key().prop_map(Get),
        4 => Just(Combine),
        2 => Just(Operators),
        1 => few().prop_map(Retain),
        2 => (few(), few()).prop_map(|(n, stop)| ExtractIf(n, stop)),
        1 => few().prop_map(Drain),
        2 => prop_oneof![Just(Clear), Just(Clone), Just(CloneFrom), Just(ShrinkToFit)],
        1 => few().prop_map(IntoIter),
        1 => (key(), few()).prop_map(|(k, n)| Extend(k, n)),
        1 => few().prop_map(Reserve),
        1 => few().prop_map(ShrinkTo),
        3 => (0..5_u8).prop_map(Step),
        1 => any::<bool>().prop_map(AutoShrink),
    ]
}

fn bad() -> impl Strategy<Value = Hashing> {
    prop_oneof![
        Just(Hashing::Identity),
        Just(Hashing::Constant),
        Just(Hashing::OneHome),
        Just(Hashing::Clustered)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_operations_with_a_good_hasher(ops in prop::collection::vec(map_op(), 1..60)) {
        run_map(ops, Hashing::Spread);
    }

    #[test]
    fn any_operations_with_a_bad_hasher(ops in prop::collection::vec(map_op(), 1..40), hashing in bad()) {
        run_map(ops, hashing);
    }

    #[test]
    fn any_operations_on_sets(ops in prop::collection::vec(set_op(), 1..60)) {
        run_set(ops, Hashing::Spread);
    }

    #[test]
    fn any_operations_on_sets_with_a_bad_hasher(ops in prop::collection::vec(set_op(), 1..40), hashing in bad()) {
        run_set(ops, hashing);
    }
}

/// Each operation during growth and during shrinking, at each part of the way, whatever the random sequences reach.
#[test]
fn each_operation_with_two_generations() {
    use ops::MapOp::*;
    let each = [
        Insert(9, 1),
        Insert(650, 1),
        TryInsert(9, 1),
        TryInsert(650, 1),
        Remove(9),
        Remove(650),
        Get(9),
        Get(650),
        GetMut(9, 5),
        GetDisjoint([9, 10, 650]),
        GetDisjoint([9, 10, 9]),
        EntryOr(9, 1),
        EntryOr(650, 1),
        EntryRemove(9),
        EntryRemove(650),
        EntryInsert(9, 1),
        EntryInsert(650, 1),
        EntryUnused(650),
        EntryRef(9, 1),
        EntryRef(650, 1),
        Iterate(50),
        IterMut(3),
        ValuesMut(3),
        Retain(2),
        ExtractIf(1, 255),
        ExtractIf(1, 20),
        Drain(20),
        ForgetDrain(20),
        Clear,
        Clone,
        CloneFrom(113),
        CloneFrom(0),
        IntoIter(20),
        Refill,
        Reserve(5),
        Reserve(255),
        TryReserveTooMuch,
        ShrinkToFit,
        ShrinkTo(200),
        AutoShrink(false),
        Extend(100, 50),
        ExtendByReference(100, 50),
        Compare(9),
    ];
    let grown = [InsertRun(0, 113)];
    let shrunk = [InsertRun(0, 225), Step(4), Step(4), Step(4), Step(4), Step(4), RemoveRun(0, 170)];
    for (start, parts) in [(&grown[..], 9), (&shrunk[..], 17)] {
        for op in &each {
            for part in 0..parts {
                let steps = (0..part).map(|_| Step(1));
                let ops =
                    start.iter().cloned().chain(steps).chain([op.clone(), InsertRun(300, 9), op.clone()]);
                run_map(ops, Hashing::Spread);
            }
        }
    }
}
