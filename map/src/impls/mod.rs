//! Traits of other crates for maps and sets, each behind a feature.

#[cfg(feature = "rayon")]
pub(crate) mod rayon;
#[cfg(feature = "serde")]
mod serde;
