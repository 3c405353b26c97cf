//! Tools for developers and operators that are not installed on a box: the demo, the benchmarks, the street simulator
//! and the bill of materials.

pub mod cli;
pub mod newness;
pub mod sbom;
pub mod simulate;
