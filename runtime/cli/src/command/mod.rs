//! What every subcommand needs: how it fails, and how it writes. No locks but that of standard output.

mod failure;
pub(crate) mod output;

pub(crate) use failure::Failure;
