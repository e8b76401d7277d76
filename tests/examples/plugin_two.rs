//! A second plugin with its own copy of ebbtide, for the trials of `tests/plugins`.

mod plugin;
