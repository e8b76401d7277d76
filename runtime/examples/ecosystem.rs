//! Other people's code on this allocator: threads, channels, regular expressions, JSON and ordered maps, each with its
//! result checked. It is also a program to run under a memory checker.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

const WORKERS: usize = 4;
const LINES: usize = 500;

/// Log lines, some of which are errors.
fn log(worker: usize) -> String {
    let line = |n| {
        let level = if n % 7 == 0 { "ERROR" } else { "INFO" };
        format!("2024-05-{:02} {level} worker={worker} request={n} took={}ms\n", 1 + n % 28, n * worker % 90)
    };
    (0..LINES).map(line).collect()
}

/// The request numbers of the errors in `text`.
fn errors(text: &str) -> Vec<usize> {
    let pattern = regex::Regex::new(r"(?m)^\S+ ERROR worker=\d+ request=(\d+) ").expect("a pattern");
    pattern.captures_iter(text).map(|found| found[1].parse().expect("digits")).collect()
}

/// Threads allocate, another one frees.
fn threads_and_regex() -> BTreeMap<usize, Vec<usize>> {
    let (sender, receiver) = mpsc::channel();
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let sender = sender.clone();
            thread::spawn(move || sender.send((worker, log(worker))).expect("a receiver"))
        })
        .collect();
    drop(sender);
    let found: BTreeMap<usize, Vec<usize>> =
        receiver.iter().map(|(worker, text)| (worker, errors(&text))).collect();
    workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
    found
}

/// To JSON and back.
fn json(found: &BTreeMap<usize, Vec<usize>>) {
    let text = serde_json::to_string_pretty(found).expect("JSON");
    let back: BTreeMap<usize, Vec<usize>> = serde_json::from_str(&text).expect("the same JSON");
    assert_eq!(&back, found);
    let value: serde_json::Value = serde_json::from_str(&text).expect("any JSON");
    assert_eq!(value["3"][1], 7);
}

/// Blocks of every size and alignment grow, move, shrink and keep their contents.
fn blocks() {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for size in (0..20).map(|power| 1_usize << power) {
        let mut block = vec![(size % 251) as u8; size];
        block.extend_from_within(..size / 2);
        block.shrink_to_fit();
        blocks.push(block);
    }
    blocks.reverse();
    for block in &blocks {
        assert!(block.iter().all(|&byte| byte == block[0]));
    }
    assert!(vec![0_u64; 1 << 16].iter().all(|&word| word == 0));

    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let page = Box::new(Page([7; 4096]));
    assert_eq!((&raw const *page).addr() % 4096, 0);
    assert_eq!(page.0[4095], 7);
}

fn main() {
    assert!(ebbtide::is_active());
    for round in 0..3 {
        let found = threads_and_regex();
        assert_eq!(found.len(), WORKERS);
        for numbers in found.values() {
            assert_eq!(*numbers, (0..LINES).step_by(7).collect::<Vec<_>>());
        }
        json(&found);
        blocks();
        drop(found);
        println!("round {round}: {}", ebbtide::free_os_memory());
    }
    let stats = ebbtide::mem_stats();
    assert_eq!(stats.heap_sys, stats.heap_inuse + stats.heap_idle);
    println!("all results are right");
}
