//! Faults of a grid file and of coordinate systems as sentences that can be put into another language. The engine's own texts are the English ones.

use gridwatch_base::{message, message::Message};
use gridwatch_engine::{
    LonLat,
    geometry::CrsError,
    grid::{CellFault, GridFault, Overlap, RingFault},
};

/// A fault of the file.
pub(super) fn grid(fault: &GridFault) -> Message {
    match fault {
        GridFault::NotGeoJson(detail) => message!("not a GeoJSON FeatureCollection: {detail}", detail),
        GridFault::CrsUnsupported { configured } => message!(
            "unsupported crs {configured}: convert the grid and state EPSG:4490 or EPSG:4326",
            configured = format!("{configured:?}")
        ),
        GridFault::CrsUnstated { expected } => message!(
            "the file does not state its CRS: ask its owner which one it uses, then add \
             \"crs\": {\"type\": \"name\", \"properties\": {\"name\": \"{expected}\"}} beside \"type\": \"FeatureCollection\"",
            expected
        ),
        GridFault::CrsDiffers { stated, expected } => message!(
            "the file states {stated} but the configuration {expected}: convert the file or correct the configuration",
            stated = format!("{stated:?}"),
            expected = format!("{expected:?}")
        ),
        GridFault::BadPattern { pattern, detail } => message!(
            "code_pattern `{pattern}` is not a valid regular expression: {detail}",
            pattern,
            detail
        ),
        GridFault::Empty => "the file contains no cells: export the unit cells as polygons".into(),
        GridFault::Cell {
            feature,
            code: Some(code),
            fault,
        } => message!(
            "features[{feature}] (code {code}): {fault}",
            feature = *feature,
            code = format!("{code:?}"),
            fault = cell(fault)
        ),
        GridFault::Cell { feature, fault, .. } => {
            message!("features[{feature}]: {fault}", feature = *feature, fault = cell(fault))
        }
        other => other.to_string().into(),
    }
}

fn cell(fault: &CellFault) -> Message {
    match fault {
        CellFault::NoCode { property } => message!(
            "no property {property}: name the one that holds the code in code_property",
            property = format!("{property:?}")
        ),
        CellFault::CodeNotText { property, found } => message!(
            "property {property} is {found}, but a code must be a string: export it as text",
            property = format!("{property:?}"),
            found
        ),
        CellFault::CodeForm { pattern } => message!(
            "the code does not match `{pattern}`: correct the code, or code_pattern",
            pattern
        ),
        CellFault::Duplicate { first } => message!(
            "features[{first}] has the same code: merge the two into a MultiPolygon, or correct one",
            first = *first
        ),
        CellFault::NotAPolygon { found } => message!(
            "the geometry is {found}; a cell must be a Polygon or a MultiPolygon",
            found
        ),
        CellFault::RingTooShort {
            polygon,
            ring,
            positions,
        } => message!(
            "polygon {polygon}, ring {ring} has {positions} positions; a ring needs 4 or more, the last equal to the first",
            polygon = *polygon,
            ring = *ring,
            positions = *positions
        ),
        CellFault::RingOpen { polygon, ring } => message!(
            "polygon {polygon}, ring {ring} is not closed: repeat its first position at its end",
            polygon = *polygon,
            ring = *ring
        ),
        CellFault::OutOfRange {
            polygon,
            ring,
            position,
        } => message!(
            "polygon {polygon}, ring {ring} has the position {position}, which is not [lon, lat] in degrees: the order may be \
             swapped, or the file projected to metres",
            polygon = *polygon,
            ring = *ring,
            position
        ),
        other => other.to_string().into(),
    }
}

/// A ring without area, or one that crosses itself.
pub(super) fn ring(fault: &RingFault) -> Message {
    let (cell, polygon, ring) = (fault.cell.to_string(), fault.polygon, fault.ring);
    match fault.crossing {
        None => message!(
            "cell {cell}, polygon {polygon}, ring {ring} has no area",
            cell,
            polygon,
            ring
        ),
        Some(([a, b], LonLat { lon, lat })) => message!(
            "cell {cell}, polygon {polygon}, ring {ring} crosses itself at [{lon}, {lat}] (edges {a} and {b})",
            cell,
            polygon,
            ring,
            lon = format!("{lon:.6}"),
            lat = format!("{lat:.6}"),
            a,
            b
        ),
    }
}

/// Ground of two cells.
pub(super) fn overlap(overlap: &Overlap) -> Message {
    let [a, b] = &overlap.cells;
    let LonLat { lon, lat } = overlap.at;
    message!(
        "cells {a} and {b} overlap by {area} m² at [{lon}, {lat}]",
        a = a.to_string(),
        b = b.to_string(),
        area = format!("{:.0}", overlap.area_m2),
        lon = format!("{lon:.6}"),
        lat = format!("{lat:.6}")
    )
}

/// A coordinate system that is not known, or a position that is not one of its.
pub(super) fn crs(fault: &CrsError) -> Message {
    match fault {
        CrsError::Unknown(name) => message!(
            "unknown coordinate reference system {name}: use EPSG:4490, EPSG:4326, GCJ-02, or local:LON,LAT,BEARING (a plane in \
             metres: its origin in EPSG:4490, and where its y axis points in degrees from north)",
            name = format!("{name:?}")
        ),
        CrsError::BadPlane(plane) => message!(
            "invalid local plane {plane}: use local:LON,LAT,BEARING in degrees, such as local:120.001,30.0009,12.5",
            plane = format!("{plane:?}")
        ),
        CrsError::OutOfRange(x, y, crs, why) => message!(
            "[{x}, {y}] is not a valid position in {crs}: {why}",
            x = *x,
            y = *y,
            crs = crs.to_string(),
            why = Message::from(*why)
        ),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use gridwatch_engine::geometry::Crs;

    use super::*;

    #[test]
    fn the_english_is_the_engines() {
        let text = || String::from("a \"quoted\" {text}");
        let cells = [
            CellFault::NoCode { property: text() },
            CellFault::CodeNotText {
                property: text(),
                found: text(),
            },
            CellFault::CodeForm { pattern: text() },
            CellFault::Duplicate { first: 3 },
            CellFault::NotAPolygon { found: text() },
            CellFault::RingTooShort {
                polygon: 0,
                ring: 1,
                positions: 2,
            },
            CellFault::RingOpen { polygon: 0, ring: 1 },
            CellFault::OutOfRange {
                polygon: 0,
                ring: 1,
                position: text(),
            },
        ];
        let in_cells = cells.into_iter().zip([None, Some(text())].into_iter().cycle());
        let in_cells = in_cells.map(|(fault, code)| GridFault::Cell {
            feature: 7,
            code,
            fault,
        });
        let of_file = [
            GridFault::NotGeoJson(text()),
            GridFault::CrsUnsupported { configured: text() },
            GridFault::CrsUnstated { expected: text() },
            GridFault::CrsDiffers {
                stated: text(),
                expected: text(),
            },
            GridFault::BadPattern {
                pattern: text(),
                detail: text(),
            },
            GridFault::Empty,
        ];
        for fault in of_file.into_iter().chain(in_cells) {
            assert_eq!(grid(&fault).as_str(), fault.to_string());
        }
        let at = LonLat {
            lon: 113.6000004,
            lat: 34.7,
        };
        for crossing in [None, Some(([0, 2], at))] {
            let fault = RingFault {
                cell: "410105001001".into(),
                polygon: 1,
                ring: 0,
                crossing,
            };
            assert_eq!(ring(&fault).as_str(), fault.to_string());
        }
        let both = Overlap {
            cells: ["410105001001".into(), "410105001002".into()],
            at,
            area_m2: 12.6,
        };
        assert_eq!(overlap(&both).as_str(), both.to_string());
        let place = CrsError::OutOfRange(200.0, 34.7, Crs::Wgs84, "write [lon, lat] in degrees");
        for fault in [CrsError::Unknown(text()), CrsError::BadPlane(text()), place] {
            assert_eq!(crs(&fault).as_str(), fault.to_string());
        }
    }
}
