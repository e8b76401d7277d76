//! What workloads and scenarios are made of and measured with.

pub mod block;
pub mod channel;
pub mod effort;
pub mod processor;
pub mod release;
pub mod sampler;
