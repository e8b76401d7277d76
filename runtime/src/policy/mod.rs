//! What is decided, apart from what is done about it: sizes and time in, decisions out. Nothing here reads a clock, touches a
//! page or takes a lock.
//!
//! | file | what it decides |
//! |---|---|
//! | `setting.rs` | [`Policy`] and its text form |
//! | `goal.rs` | how many bytes a policy wants to leave now |
//! | `memory_limit.rs` | [`MemoryLimit`] and its text form |
//! | `limit.rs` | what the soft memory limit demands |
//! | `budget.rs` | what refaults and looks in vain a policy may cost |
//! | `pace.rs` | what time the background thread may take |
//! | `token_bucket.rs` | when what was spent is paid for: the throttle of the three above |

pub(crate) mod budget;
pub(crate) mod goal;
pub(crate) mod limit;
mod memory_limit;
pub(crate) mod pace;
#[cfg(feature = "serde")]
mod serialize;
mod setting;
mod token_bucket;

pub use memory_limit::{LimitError, MemoryLimit, ParseLimitError};
pub use setting::{ParsePolicyError, Policy};
