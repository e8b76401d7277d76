//! A change of generation: the old one and how far it is evacuated, the steps, and the arithmetic of their pace.

mod evacuate;
pub(crate) mod old;
pub(crate) mod pacing;
