//! A large JSON document parsed into a tree and dropped: many small blocks of mixed sizes with one lifetime.

use std::hint::black_box;

use ebbtide_tests::rng::Rng;

use crate::measure::effort::{Effort, Sample};

/// About `len` bytes of JSON: records with numbers, texts, lists and nested objects.
fn generate(len: usize) -> String {
    use std::fmt::Write;
    let mut rng = Rng::new(14);
    let mut text = String::with_capacity(len + 1024);
    text.push('[');
    while text.len() < len {
        let id = rng.next_u64();
        let (a, b) = (rng.below(1000), rng.below(90));
        let name = "memory".repeat(rng.range(1, 6));
        write!(text, r#"{{"id":{id},"name":"{name}","tags":["t{a}","t{b}","#).expect("strings take all");
        write!(text, r#""x"],"place":{{"lat":{b}.25,"lon":-{a}.5,"label":"p{a}"}},"on":true,"values":["#)
            .expect("strings take all");
        for i in 0..rng.range(1, 20) {
            write!(text, "{},", i * a).expect("strings take all");
        }
        text.push_str("null]},");
    }
    text.push_str("null]");
    text
}

/// Parse and drop 4 MiB of JSON. One operation is one KiB of text.
pub(super) fn json(effort: Effort) -> Sample {
    let text = generate(4 << 20);
    let rounds = effort.of(10);
    Sample::time(rounds * text.len() / 1024, || {
        for _ in 0..rounds {
            let tree: serde_json::Value = serde_json::from_str(black_box(&text)).expect("the text is JSON");
            black_box(&tree);
        }
    })
}
