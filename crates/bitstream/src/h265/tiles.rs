//! The order of the coding tree blocks of a picture: tile by tile, each in raster scan (6.5.1).

use super::pps::TileLayout;

/// A rectangle of coding tree blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) left: u32,
    pub(super) top: u32,
    /// Behind the last column and row.
    pub(super) right: u32,
    pub(super) bottom: u32,
}

/// The tiles of a picture.
#[derive(Debug, Default)]
pub(super) struct Tiles {
    /// The first column of each column of tiles, and the end of the last.
    columns: Vec<u32>,
    rows: Vec<u32>,
}

/// A coding tree block, and its place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) tile: Tile,
}

impl Tiles {
    /// Divides a picture of `width` × `height` coding tree blocks; `None` if the tiles do not fit.
    pub(super) fn set(&mut self, layout: Option<&TileLayout>, width: u32, height: u32) -> Option<()> {
        let (columns, rows) = (&mut self.columns, &mut self.rows);
        match layout {
            None => {
                uniform(columns, 1, width)?;
                uniform(rows, 1, height)
            }
            Some(TileLayout::Uniform(across, down)) => {
                uniform(columns, *across, width)?;
                uniform(rows, *down, height)
            }
            Some(TileLayout::Explicit(widths, heights)) => {
                explicit(columns, widths, width)?;
                explicit(rows, heights, height)
            }
        }
    }

    pub(super) fn first(&self) -> Option<Cursor> {
        self.at_tile(0, 0)
    }

    /// The block that follows in the order; `None` after the last.
    pub(super) fn next(&self, at: Cursor) -> Option<Cursor> {
        let Cursor { x, y, tile } = at;
        if x + 1 < tile.right {
            return Some(Cursor { x: x + 1, ..at });
        }
        if y + 1 < tile.bottom {
            return Some(Cursor {
                x: tile.left,
                y: y + 1,
                tile,
            });
        }
        let column = self.columns.partition_point(|left| *left <= tile.left);
        let row = self.rows.partition_point(|top| *top <= tile.top);
        self.at_tile(column, row - 1).or_else(|| self.at_tile(0, row))
    }

    /// Blocks before `at` in the order.
    pub(super) fn index(&self, at: Cursor) -> u32 {
        let (width, tile) = (self.columns.last().copied().unwrap_or_default(), at.tile);
        let tile_width = tile.right - tile.left;
        width * tile.top + (tile.bottom - tile.top) * tile.left + (at.y - tile.top) * tile_width + (at.x - tile.left)
    }

    /// Blocks before the one at column `x` and row `y` in the order.
    pub(super) fn index_of(&self, x: u32, y: u32) -> Option<u32> {
        let column = self.columns.partition_point(|left| *left <= x);
        let row = self.rows.partition_point(|top| *top <= y);
        let tile = self.at_tile(column.checked_sub(1)?, row.checked_sub(1)?)?.tile;
        Some(self.index(Cursor { x, y, tile }))
    }

    fn at_tile(&self, column: usize, row: usize) -> Option<Cursor> {
        let tile = Tile {
            left: *self.columns.get(column)?,
            top: *self.rows.get(row)?,
            right: *self.columns.get(column + 1)?,
            bottom: *self.rows.get(row + 1)?,
        };
        Some(Cursor {
            x: tile.left,
            y: tile.top,
            tile,
        })
    }
}

/// Equations 6-3 and 6-4.
fn uniform(starts: &mut Vec<u32>, count: u32, size: u32) -> Option<()> {
    starts.clear();
    starts.extend((0..=count).map(|i| i * size / count));
    (count <= size).then_some(())
}

fn explicit(starts: &mut Vec<u32>, sizes: &[u32], size: u32) -> Option<()> {
    starts.clear();
    let mut at = 0;
    for part in sizes {
        starts.push(at);
        at += part;
    }
    starts.extend([at, size]);
    (at < size).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(layout: Option<&TileLayout>, width: u32, height: u32) -> Option<Vec<(u32, u32)>> {
        let mut tiles = Tiles::default();
        tiles.set(layout, width, height)?;
        let mut at = tiles.first();
        let mut order = Vec::new();
        while let Some(cursor) = at {
            assert_eq!(tiles.index(cursor), order.len() as u32);
            assert_eq!(tiles.index_of(cursor.x, cursor.y), Some(order.len() as u32));
            order.push((cursor.x, cursor.y));
            at = tiles.next(cursor);
        }
        Some(order)
    }

    #[test]
    fn without_tiles_the_order_is_raster_scan() {
        assert_eq!(order(None, 2, 2).unwrap(), [(0, 0), (1, 0), (0, 1), (1, 1)]);
    }

    #[test]
    fn tiles_are_scanned_one_after_the_other() {
        let four = TileLayout::Uniform(2, 2);
        let scanned = order(Some(&four), 3, 3).unwrap();
        assert_eq!(
            scanned,
            [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (2, 1), (1, 2), (2, 2)]
        );
        let uneven = TileLayout::Explicit(vec![2], vec![]);
        assert_eq!(
            order(Some(&uneven), 3, 2).unwrap(),
            [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1)]
        );
    }

    #[test]
    fn tiles_that_do_not_fit_are_refused() {
        assert_eq!(order(Some(&TileLayout::Uniform(4, 1)), 3, 3), None);
        assert_eq!(order(Some(&TileLayout::Explicit(vec![2, 1], vec![])), 3, 3), None);
    }
}
