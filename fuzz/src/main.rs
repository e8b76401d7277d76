//! Fuzzes maps and sets: the operations of the property tests, chosen by coverage, with all invariants checked after
//! each. The map is built with `--cfg fuzzing`, which makes its constants as small as its own tests have them.
#![no_main]

use ebbtide_map::{HashMap, HashSet, hash_map};
use libfuzzer_sys::fuzz_target;

#[path = "../../map/src/tests/ops/mod.rs"]
mod ops;

/// What the fuzzer's bytes stand for.
#[derive(Debug, arbitrary::Arbitrary)]
enum Input {
    Map(Vec<ops::MapOp>),
    Set(Vec<ops::SetOp>),
}

/// Operations of one input: enough for several generations, few enough for many inputs a second.
const MOST: usize = 60;

fuzz_target!(|input: (ops::Hashing, Input)| {
    match input {
        (hashing, Input::Map(operations)) => ops::run_map(operations.into_iter().take(MOST), hashing),
        (hashing, Input::Set(operations)) => ops::run_set(operations.into_iter().take(MOST), hashing),
    }
});
