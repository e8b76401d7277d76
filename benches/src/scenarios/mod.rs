//! What single numbers of time do not show: memory that stays after a release, and work beside releases.

pub mod after_release;
pub mod beside;
pub mod burst;
