//! Tools for developers and operators that are not installed on a box: the demo, the benchmarks and the street simulator.

pub mod cli;
pub mod newness;
pub mod simulate;
