//! A plugin with ebbtide as its allocator, for the trials of `tests/plugins`.

mod plugin;
