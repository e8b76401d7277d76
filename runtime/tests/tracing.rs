//! The feature `tracing`: what a tracing subscriber sees, even one that allocates and causes events itself. One test,
//! since a program has one such subscriber.

use ebbtide::{HashMap, Policy};
use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

/// A line for each event: level, target, fields.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
static PANICS: AtomicBool = AtomicBool::new(false);

struct Collector;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "ebbtide"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                write!(self.0, " {field}={value:?}").expect("a string takes it");
            }
        }
        assert!(!PANICS.load(Ordering::SeqCst), "the subscriber's own");
        let mut line = Line(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut line);
        // Events from here must not come back here.
        drop(vec![vec![1_u8; 64 << 10]; 512]);
        ebbtide::free_os_memory();
        SEEN.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn seen() -> Vec<String> {
    std::mem::take(&mut SEEN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The one line that begins like this.
fn one(lines: &[String], begin: &str) -> String {
    let found: Vec<&String> = lines.iter().filter(|line| line.starts_with(begin)).collect();
    let [line] = found[..] else { panic!("{begin}: {lines:?}") };
    line.clone()
}

#[test]
fn tracing_sees_every_event_with_its_fields() {
    ebbtide::set_policy(Policy::Off);
    tracing::subscriber::set_global_default(Collector).expect("the first");
    drop(vec![1_u8; 32 << 20]);
    let report = ebbtide::free_os_memory();
    let line = one(&seen(), "INFO ebbtide message=release ");
    assert!(line.contains(" number=1 cause=\"forced\" "), "{line}");
    assert!(line.contains(&format!(" released_bytes={} ", report.released_bytes)), "{line}");
    assert!(line.contains(&format!(" rss_after={} ", report.rss_after)), "{line}");

    let mut map = HashMap::new().named("traced");
    (0..10_000).for_each(|n| assert_eq!(map.insert(n, n), None));
    let lines = seen();
    let grown = lines.iter().find(|line| line.starts_with("DEBUG ebbtide message=map changed "));
    let grown = grown.unwrap_or_else(|| panic!("{lines:?}"));
    assert!(grown.contains(" map=\"traced\" kind=\"grow\" old_buckets="), "{grown}");

    ebbtide::set_policy(Policy::Percent(10));
    drop((0..1024).map(|_| vec![1_u8; 64 << 10]).collect::<Vec<_>>());
    let lines = seen();
    assert!(lines.iter().any(|line| line.contains(" cause=\"policy\" ")), "{lines:?}");
    ebbtide::set_policy(Policy::Off);
    seen();

    ebbtide::set_memory_limit(Some(64 << 20)).expect("a limit in bytes");
    let live: Vec<Vec<u8>> = (0..1600).map(|_| vec![1; 64 << 10]).collect();
    let line = one(&seen(), "WARN ebbtide message=memory is above its limit ");
    assert!(line.contains(" limit=67108864 total="), "{line}");
    drop(live);
    ebbtide::set_memory_limit(None).expect("a limit in bytes");

    PANICS.store(true, Ordering::SeqCst);
    ebbtide::free_os_memory();
    PANICS.store(false, Ordering::SeqCst);
    seen();
    ebbtide::free_os_memory();
    one(&seen(), "INFO ebbtide message=release ");
}
