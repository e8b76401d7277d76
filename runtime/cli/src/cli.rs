//! The command line: what `ebbtide` takes, and the exit codes it promises. `demo` is what runs when no subcommand is
//! named, so its options stand on both levels.

use crate::demo::Arguments as DemoArguments;
use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the output could not be written
  2  the command line is wrong: an unknown option or value, an --input that cannot be read,
     a --report that cannot be written, or no input at all";

/// A memory runtime for Rust: what a program no longer needs really leaves it.
#[derive(Debug, Parser)]
#[command(name = "ebbtide", version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: DemoArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fill an index, delete most of it, shrink it, give the memory back, fill it again [default]
    #[command(after_help = EXIT_CODES)]
    Demo(DemoArguments),
}

impl Cli {
    /// The arguments of the demo, wherever they stood.
    pub(crate) fn into_demo(self) -> DemoArguments {
        match self.command {
            Some(Command::Demo(arguments)) => arguments,
            None => self.demo,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use ebbtide::Policy;

    fn demo(arguments: &[&str]) -> Result<DemoArguments, clap::Error> {
        Cli::try_parse_from([&["ebbtide"], arguments].concat()).map(Cli::into_demo)
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_work_with_and_without_the_word_demo() {
        for before in [&[][..], &["demo"][..]] {
            let arguments =
                demo(&[before, &["--json", "--keep", "7", "--policy", "percent:3"]].concat()).expect("valid");
            assert!(arguments.json && arguments.keep == 7 && arguments.policy == Policy::Percent(3));
        }
    }

    #[test]
    fn defaults_are_the_contract() {
        let arguments = demo(&[]).expect("valid");
        assert_eq!((arguments.keep, arguments.policy), (5, Policy::Off));
        assert!(arguments.input.is_empty() && arguments.entries.is_none() && !arguments.json);
    }

    #[test]
    fn input_takes_several_paths() {
        assert_eq!(demo(&["--input", "a", "b", "--json"]).expect("valid").input.len(), 2);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for wrong in [
            &["--keep", "101"][..],
            &["--keep", "-1"],
            &["--keep", "few"],
            &["--entries", "0"],
            &["--entries", "9999999999"],
            &["--entries", "5", "--input", "a"],
            &["--policy", "never"],
            &["--input"],
        ] {
            assert!(demo(wrong).is_err(), "{wrong:?}");
        }
    }
}
