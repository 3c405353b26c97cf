//! The stored form of a grid: an object with the polygons of each cell by its code, as in GeoJSON but without the repeated last
//! position. The index is built again.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Cell, Extent, Grid};
use crate::types::{CellCode, LonLat};

type StoredPolygon = Vec<Vec<[f64; 2]>>;

impl Serialize for Grid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ring = |ring: &Vec<LonLat>| ring.iter().map(|p| [p.lon, p.lat]).collect();
        let polygons = |cell: &Cell| -> Vec<StoredPolygon> {
            let polygon = |polygon: &Vec<Vec<LonLat>>| polygon.iter().map(ring).collect();
            cell.polygons.iter().map(polygon).collect()
        };
        serializer.collect_map(self.cells.iter().map(|cell| (&cell.code, polygons(cell))))
    }
}

impl<'de> Deserialize<'de> for Grid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Ordered by code, as the index requires.
        let stored = BTreeMap::<CellCode, Vec<StoredPolygon>>::deserialize(deserializer)?;
        let ring = |ring: Vec<[f64; 2]>| ring.into_iter().map(|[lon, lat]| LonLat { lon, lat }).collect();
        let cells = stored.into_iter().map(|(code, polygons)| {
            let polygon = |polygon: StoredPolygon| polygon.into_iter().map(ring).collect();
            let polygons: Vec<_> = polygons.into_iter().map(polygon).collect();
            let extent = Extent::of(&polygons);
            Cell { code, polygons, extent }
        });
        Ok(Self::indexed(cells.collect()))
    }
}
