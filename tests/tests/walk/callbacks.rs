//! Callbacks of `on_event` that do what callbacks may do: allocate, release, name maps, ask for numbers, change the policy
//! and the limit, subscribe, unsubscribe (themselves, too), fork, and panic.
//!
//! A callback runs inside a free or an allocation of some thread, which may have a lock of the walk's. So it only tries
//! locks.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use ebbtide::{Event, HashMap, ReleaseOptions, Subscription};
use ebbtide_tests::rng::Rng;

use crate::blocks::Held;
use crate::process::process;
use crate::worker::Worker;
use crate::{children, settings};

const MOST: usize = 6;

/// What a callback panics with that should. The panic hook says nothing of it.
pub(crate) struct Deliberate;

/// Calls of callbacks. Each draws its own numbers.
static CALLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn calls() -> u64 {
    CALLS.load(Relaxed)
}

#[derive(Clone, Copy)]
enum Kind {
    Counts,
    Allocates,
    Releases,
    NamesMaps,
    AsksForNumbers,
    Sets,
    Subscribes,
    Unsubscribes,
    Forks,
    Panics,
}

const KINDS: [Kind; 10] = [
    Kind::Counts,
    Kind::Allocates,
    Kind::Releases,
    Kind::NamesMaps,
    Kind::AsksForNumbers,
    Kind::Sets,
    Kind::Subscribes,
    Kind::Unsubscribes,
    Kind::Forks,
    Kind::Panics,
];

/// Subscribes, or ends a subscription.
pub(crate) fn change(worker: &mut Worker) {
    let rng = &mut worker.rng;
    if rng.below(3) == 0 {
        unsubscribe();
    } else {
        subscribe(KINDS[rng.below(KINDS.len())]);
    }
}

fn subscribe(kind: Kind) {
    let subscription = ebbtide::on_event(move |event| called(kind, event));
    keep(subscription);
}

fn keep(subscription: Subscription) {
    // What finds no room ends here, or when the list is free again.
    let Ok(mut list) = process().subscriptions.try_lock() else { return };
    let oldest = if list.len() < MOST { None } else { Some(list.remove(0)) };
    list.push(subscription);
    drop(list);
    drop(oldest);
}

fn unsubscribe() {
    let last = process().subscriptions.try_lock().ok().and_then(|mut list| list.pop());
    drop(last);
}

fn allocate(rng: &mut Rng) {
    let blocks: Vec<Held> = (0..rng.below(40)).filter_map(|_| Held::make(rng)).collect();
    let place = process().places[rng.below(process().places.len())].try_lock();
    if let Ok(mut place) = place {
        place.blocks.extend(blocks);
    }
}

fn called(kind: Kind, event: &Event<'_>) {
    assert!(!INSIDE.replace(true), "a callback hears of what it causes itself");
    let call = CALLS.fetch_add(1, Relaxed);
    let mut rng = Rng::new(process().seed ^ call);
    if let Event::Release { number, .. } = event {
        assert!(*number > 0, "releases are numbered from 1 on");
    }
    match kind {
        Kind::Counts => {}
        Kind::Allocates => allocate(&mut rng),
        Kind::Releases => {
            let report = ebbtide::release(ReleaseOptions::new().max_bytes(rng.below(2 << 20) as u64));
            assert!(report.blocked_bytes() < 1 << 40, "{report:?}");
        }
        Kind::NamesMaps => {
            let mut map = HashMap::new().named("of a callback");
            (0..rng.below(3000)).for_each(|key| assert_eq!(map.insert(key, key), None));
            map.verify();
        }
        Kind::AsksForNumbers => {
            settings::check_stats();
            assert!(ebbtide::map_stats().len() < 1 << 20);
        }
        Kind::Sets => {
            ebbtide::set_policy(settings::any_policy(&mut rng));
            settings::set_limit(&mut rng);
        }
        Kind::Subscribes => subscribe(KINDS[rng.below(KINDS.len())]),
        Kind::Unsubscribes => {
            // Perhaps there is no subscription left when the limit is crossed.
            (0..rng.range(1, MOST)).for_each(|_| unsubscribe());
            settings::set_limit(&mut rng);
            allocate(&mut rng);
        }
        Kind::Forks => {
            if rng.below(10) == 0 {
                children::fork_inside_a_call(rng.next_u64());
            }
        }
        Kind::Panics => {
            INSIDE.set(false);
            if rng.below(2) == 0 {
                std::panic::panic_any(Deliberate);
            }
        }
    }
    INSIDE.set(false);
}
