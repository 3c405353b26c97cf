//! Under construction.
/// The city's cells.
#[derive(Debug, Clone)]
pub struct Grid;
