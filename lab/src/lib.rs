//! What developers and operators try gridwatch with, and a box does not need: the demo, benchmarks, a camera farm and the
//! street simulator.

pub mod cli;
pub mod simulate;
