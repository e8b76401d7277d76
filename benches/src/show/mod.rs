//! What is made of the numbers: their medians, tables, charts, and pages of these.

pub mod chart;
pub mod page;
pub mod summary;
pub mod table;
