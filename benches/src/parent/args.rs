//! The options of the bench targets and experiments, which cargo passes after `--`.

use std::path::PathBuf;

/// Options that the comparisons and experiments understand, each those that concern it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// Only the rows whose names contain one of these; all if empty.
    pub rows: Vec<String>,
    /// Only these allocators, and always ebbtide; all if empty.
    pub peers: Vec<String>,
    /// How often each program runs; the median counts.
    pub rounds: usize,
    /// Where to write the numbers.
    pub json: Option<PathBuf>,
    /// Where an experiment writes its chart.
    pub html: Option<PathBuf>,
    /// The folder to which an experiment writes its chart as pictures for a light and a dark page.
    pub svg: Option<PathBuf>,
    /// Less work for each run, and few rounds.
    pub quick: bool,
}

/// The options, for the usage line.
pub const USAGE: &str = "options: [--rows NAME,...] [--peers NAME,...] [--rounds N] [--json FILE] [--html FILE] \
                         [--svg FOLDER] [--quick]";

impl Args {
    /// Reads the options of this process.
    ///
    /// # Errors
    /// A line that says which word was not understood.
    pub fn from_env(rounds: usize) -> Result<Self, String> {
        Self::parse(std::env::args().skip(1), rounds)
    }

    fn parse(words: impl Iterator<Item = String>, rounds: usize) -> Result<Self, String> {
        let (rows, peers) = (Vec::new(), Vec::new());
        let mut args = Self { rows, peers, rounds, json: None, html: None, svg: None, quick: false };
        let mut chosen_rounds = None;
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
            match word.as_str() {
                // Cargo adds this for `cargo bench`.
                "--bench" => {}
                "--quick" => args.quick = true,
                "--rows" => args.rows = list(&value()?),
                "--peers" => args.peers = list(&value()?),
                "--json" => args.json = Some(value()?.into()),
                "--html" => args.html = Some(value()?.into()),
                "--svg" => args.svg = Some(value()?.into()),
                "--rounds" => {
                    let number = value()?.parse().ok().filter(|&rounds| rounds > 0);
                    chosen_rounds =
                        Some(number.ok_or_else(|| format!("--rounds needs a number above 0\n{USAGE}"))?);
                }
                _ => return Err(format!("unknown option {word}\n{USAGE}")),
            }
        }
        args.rounds = chosen_rounds.unwrap_or(if args.quick { 1 } else { rounds });
        Ok(args)
    }

    /// Is this row asked for?
    #[must_use]
    pub fn wants_row(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|row| name.contains(row.as_str()))
    }

    /// Is this allocator asked for?
    #[must_use]
    pub fn wants_peer(&self, name: &str) -> bool {
        self.peers.is_empty()
            || name == crate::parent::peer::EBBTIDE
            || self.peers.iter().any(|peer| peer == name)
    }

    /// Writes `value` to the file of `--json`, if there is one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_json(&self, value: &serde_json::Value) -> Result<(), String> {
        let Some(path) = &self.json else { return Ok(()) };
        std::fs::write(path, format!("{value:#}\n"))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_ascii_whitespace().map(str::to_owned), 5)
    }

    #[test]
    fn reads_what_it_documents_and_nothing_else() {
        let args = parse("--bench --rows pair,live --rounds 3 --svg docs --quick").expect("known options");
        assert_eq!((args.rounds, args.quick, args.rows.len()), (3, true, 2));
        assert_eq!(args.svg, Some("docs".into()));
        assert!(args.wants_row("pair_64") && !args.wants_row("drift"));
        assert!(args.wants_peer("glibc"));
        assert_eq!(parse("--quick").expect("known").rounds, 1);
        assert_eq!(parse("").expect("known").rounds, 5);
        for wrong in ["--rounds 0", "--rounds", "--fast"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
