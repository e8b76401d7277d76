//! What the programs in `examples/` do: run one workload or scenario and print one line of JSON.

use std::process::ExitCode;
use std::time::Duration;

use ebbtide_tests::memory::peak_rss;
use serde_json::{Value, json};

use crate::measure::effort::Effort;
use crate::measure::release::ReleaseCall;
use crate::scenarios::{after_release, beside, burst};
use crate::workloads;

/// What a program knows about its global allocator.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The allocator and its version, for the record.
    pub version: String,
    /// Its own "release now".
    pub release: ReleaseCall,
}

const USAGE: &str = "usage: PROGRAM version | workload NAME [--quick] | scenario NAME | beside THREADS | burst MIB IDLE_MS [release]";

/// Runs what the command line names.
#[must_use]
pub fn main(subject: &Subject) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["version"] => Some(json!({ "version": subject.version })),
        ["workload", name] => workload(name, Effort::FULL),
        ["workload", name, "--quick"] => workload(name, Effort::QUICK),
        ["beside", threads] => threads.parse().ok().map(|threads| beside(threads, subject.release)),
        ["scenario", name] => scenario(name, subject.release),
        ["burst", mib, idle_ms] => burst(mib, idle_ms, None),
        ["burst", mib, idle_ms, "release"] => burst(mib, idle_ms, Some(subject.release)),
        _ => None,
    };
    match result {
        Some(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn workload(name: &str, effort: Effort) -> Option<Value> {
    let workload = workloads::find(name)?;
    (workload.run)(Effort::WARM_UP);
    let sample = (workload.run)(effort);
    Some(json!({
        "workload": name,
        "value": sample.ns_per_op() / workload.per,
        "unit": workload.unit,
        "ops": sample.ops,
        "elapsed_ns": sample.elapsed.as_nanos() as u64,
        "peak_rss": peak_rss(),
    }))
}

fn beside(threads: usize, call: ReleaseCall) -> Value {
    let outcome = beside::run(threads, call);
    let latency = |of: beside::Latency| json!({ "p9999_ns": of.p9999, "worst_ns": of.worst });
    json!({
        "quiet": latency(outcome.quiet),
        "beside": latency(outcome.beside),
        "releases": outcome.releases,
    })
}

fn burst(mib: &str, idle_ms: &str, release: Option<ReleaseCall>) -> Option<Value> {
    let idle = Duration::from_millis(idle_ms.parse().ok()?);
    let bytes = mib.parse::<usize>().ok()?.checked_mul(1 << 20)?;
    Some(burst::run(bytes, idle, release))
}

fn scenario(name: &str, call: ReleaseCall) -> Option<Value> {
    let scenario = after_release::find(name)?;
    let outcome = (scenario.run)(call);
    Some(json!({
        "scenario": name,
        "peak": outcome.peak,
        "floor": outcome.floor,
        "before": outcome.before,
        "after": outcome.after,
        "latency_ns": outcome.latency.as_nanos() as u64,
        "reported": outcome.reported,
    }))
}
