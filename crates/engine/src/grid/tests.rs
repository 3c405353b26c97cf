use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn spec() -> GridSpec {
    GridSpec {
        crs: "EPSG:4490".into(),
        code_property: "code".into(),
        code_pattern: r"^\d{15}$".into(),
    }
}

pub(super) fn code(n: usize) -> String {
    format!("410105001001{n:03}")
}

/// A rectangle from its south-west corner, closed.
pub(super) fn ring(lon: f64, lat: f64, width: f64, height: f64) -> Value {
    json!([
        [lon, lat],
        [lon + width, lat],
        [lon + width, lat + height],
        [lon, lat + height],
        [lon, lat]
    ])
}

pub(super) fn feature(code: Value, coordinates: Value) -> Value {
    json!({"type": "Feature", "properties": {"code": code}, "geometry": {"type": "Polygon", "coordinates": coordinates}})
}

pub(super) fn file(features: Vec<Value>) -> Value {
    json!({
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4490"}},
        "features": features,
    })
}

pub(super) fn parse(file: &Value) -> Result<Grid, Vec<GridFault>> {
    Grid::parse(&file.to_string(), &spec())
}

/// `columns` × `rows` cells of 0.001°, numbered from the south-west, written in reverse so that parsing must sort them.
pub(super) fn lattice(columns: usize, rows: usize) -> Grid {
    let mut features: Vec<Value> = (0..columns * rows)
        .map(|n| {
            let (lon, lat) = (
                113.0 + (n % columns) as f64 * 0.001,
                34.0 + (n / columns) as f64 * 0.001,
            );
            feature(json!(code(n)), json!([ring(lon, lat, 0.001, 0.001)]))
        })
        .collect();
    features.reverse();
    parse(&file(features)).unwrap()
}

fn at(lon: f64, lat: f64) -> LonLat {
    LonLat { lon, lat }
}

#[test]
fn finds_the_cell_and_none_outside_the_grid() {
    let grid = lattice(4, 3);
    assert_eq!(grid.len(), 12);
    assert_eq!(grid.cell_of(at(113.0015, 34.0005)).unwrap().as_str(), code(1));
    assert_eq!(grid.cell_of(at(113.0035, 34.0025)).unwrap().as_str(), code(11));
    assert_eq!(grid.cell_of(at(112.9999, 34.0005)), None);
    assert_eq!(grid.cell_of(at(113.0015, 34.0035)), None);
    assert_eq!(grid.cell_of(at(f64::NAN, 34.0)), None);
}

#[test]
fn an_edge_belongs_to_the_lowest_code() {
    let grid = parse(&file(vec![
        feature(json!(code(2)), json!([ring(113.0, 34.0, 1.0, 1.0)])),
        feature(json!(code(1)), json!([ring(114.0, 34.0, 1.0, 1.0)])),
    ]))
    .unwrap();
    assert_eq!(grid.cell_of(at(114.0, 34.5)).unwrap().as_str(), code(1));
    assert_eq!(grid.cell_of(at(113.9999, 34.5)).unwrap().as_str(), code(2));
    assert_eq!(
        grid.cell_of(at(113.0, 34.0)).unwrap().as_str(),
        code(2),
        "the outer corner too"
    );
}

#[test]
fn a_hole_is_outside_and_a_multipolygon_is_one_cell() {
    let holed = feature(
        json!(code(1)),
        json!([ring(113.0, 34.0, 3.0, 3.0), ring(114.0, 35.0, 1.0, 1.0)]),
    );
    let parts = json!({"type": "Feature", "properties": {"code": code(2)}, "geometry": {"type": "MultiPolygon",
        "coordinates": [[ring(114.25, 35.25, 0.5, 0.5)], [ring(120.0, 30.0, 1.0, 1.0)]]}});
    let grid = parse(&file(vec![holed, parts])).unwrap();
    assert_eq!(grid.cell_of(at(113.5, 34.5)).unwrap().as_str(), code(1));
    assert_eq!(grid.cell_of(at(114.1, 35.1)), None, "in the hole");
    assert_eq!(
        grid.cell_of(at(114.0, 35.5)).unwrap().as_str(),
        code(1),
        "the hole's edge"
    );
    assert_eq!(
        grid.cell_of(at(114.5, 35.5)).unwrap().as_str(),
        code(2),
        "a cell within the hole"
    );
    assert_eq!(grid.cell_of(at(120.5, 30.5)).unwrap().as_str(), code(2));
}

#[test]
fn cells_within_a_radius_are_found() {
    let grid = lattice(3, 3);
    let names = |at, r| {
        grid.cells_within(at, r)
            .into_iter()
            .map(|c| c.as_str()[12..].to_owned())
            .collect::<Vec<_>>()
    };
    let middle = at(113.0015, 34.0015);
    assert_eq!(names(middle, 1.0), ["004"]);
    assert_eq!(
        names(middle, 50.0),
        ["003", "004", "005"],
        "0.0005° are 46 m east and 55 m north"
    );
    assert_eq!(names(middle, 60.0), ["001", "003", "004", "005", "007"]);
    assert_eq!(names(middle, 100.0).len(), 9);
    assert_eq!(names(at(112.9999, 34.0005), 20.0), ["000"], "from outside the grid");
    assert!(names(at(112.9, 34.0005), 20.0).is_empty());
}

/// Last digits of the neighbours' codes.
fn beside(grid: &Grid, lon: f64, lat: f64) -> Vec<String> {
    let cell = grid.index_of(at(lon, lat)).unwrap();
    let codes = grid.neighbours(cell).iter().map(|n| grid.code(*n).unwrap());
    codes.map(|c| c.as_str()[12..].to_owned()).collect()
}

#[test]
fn neighbours_share_a_border_or_a_corner() {
    let grid = lattice(4, 3);
    assert_eq!(
        beside(&grid, 113.0015, 34.0015),
        ["000", "001", "002", "004", "006", "008", "009", "010"]
    );
    assert_eq!(beside(&grid, 113.0005, 34.0005), ["001", "004", "005"]);
    let corner = grid.find(&code(0).as_str().into()).unwrap();
    assert_eq!(grid.index_of(at(113.0005, 34.0005)), Some(corner));
    assert_eq!(grid.find(&"410105001001999".into()), None);
}

#[test]
fn nearly_shared_borders_make_cells_neighbours() {
    // 0.000003° are 0.28 m, 0.00001° 0.92 m.
    let grid = parse(&file(vec![
        feature(json!(code(1)), json!([ring(113.0, 34.0, 0.001, 0.001)])),
        feature(json!(code(2)), json!([ring(113.001_003, 34.0, 0.001, 0.001)])),
        feature(json!(code(3)), json!([ring(113.002_013, 34.0, 0.001, 0.001)])),
        feature(json!(code(4)), json!([ring(113.0003, 34.0003, 0.0002, 0.0002)])),
    ]))
    .unwrap();
    assert_eq!(
        beside(&grid, 113.0008, 34.0008),
        ["002"],
        "not the one inside it, whose border is far"
    );
    assert_eq!(beside(&grid, 113.0015, 34.0005), ["001"]);
    assert!(beside(&grid, 113.0025, 34.0005).is_empty());
}

fn faults(file: &Value) -> Vec<String> {
    parse(file).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn the_file_must_state_the_configured_crs() {
    let mut unstated = file(vec![feature(json!(code(1)), json!([ring(113.0, 34.0, 1.0, 1.0)]))]);
    for (name, accepted) in [
        ("EPSG:4490", true),
        ("epsg:4490", true),
        ("urn:ogc:def:crs:EPSG::4490", true),
        ("urn:ogc:def:crs:EPSG:9.0:4490", true),
        ("http://www.opengis.net/def/crs/EPSG/0/4490", true),
        ("EPSG:4326", false),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", false),
        ("GCJ-02", false),
        ("EPSG:4547", false),
    ] {
        unstated["crs"]["properties"]["name"] = json!(name);
        assert_eq!(parse(&unstated).is_ok(), accepted, "{name}");
    }
    let crs84 = GridSpec {
        crs: "EPSG:4326".into(),
        ..spec()
    };
    unstated["crs"]["properties"]["name"] = json!("urn:ogc:def:crs:OGC:1.3:CRS84");
    assert!(Grid::parse(&unstated.to_string(), &crs84).is_ok());

    unstated.as_object_mut().unwrap().remove("crs");
    let messages = faults(&unstated);
    assert_eq!(messages.len(), 1);
    assert!(
        messages[0].starts_with("the file does not state its CRS") && messages[0].contains("EPSG:4490"),
        "{}",
        messages[0]
    );

    let metres = GridSpec {
        crs: "EPSG:4547".into(),
        ..spec()
    };
    let messages = Grid::parse(&file(vec![]).to_string(), &metres).unwrap_err();
    assert_eq!(
        messages[0],
        GridFault::CrsUnsupported {
            configured: "EPSG:4547".into()
        }
    );
}

#[test]
fn all_faults_are_reported_at_once_with_their_feature() {
    let good = ring(113.0, 34.0, 1.0, 1.0);
    let mut bare = feature(json!(""), json!([good]));
    bare["properties"] = json!({"name": "no code"});
    let mut point = feature(json!(code(4)), json!([good]));
    point["geometry"] = json!({"type": "Point", "coordinates": [113.0, 34.0]});
    let messages = faults(&file(vec![
        feature(json!(code(1)), json!([good])),
        feature(json!(410_105_001_001_002_u64), json!([good])),
        feature(json!("41010500100100"), json!([good])),
        feature(json!(code(1)), json!([good])),
        bare,
        point,
        feature(
            json!(code(5)),
            json!([[[113.0, 34.0], [114.0, 34.0], [114.0, 35.0], [113.0, 35.0]]]),
        ),
        feature(json!(code(6)), json!([[[113.0, 34.0], [114.0, 34.0], [113.0, 34.0]]])),
        feature(
            json!(code(7)),
            json!([[[34.0, 113.0], [34.0, 114.0], [35.0, 113.0], [34.0, 113.0]]]),
        ),
    ]));
    insta::assert_snapshot!(messages.join("\n"), @r#"
    features[1]: property "code" is 410105001001002, but a code must be a string: export it as text
    features[2] (code "41010500100100"): the code does not match `^\d{15}$`: correct the code, or code_pattern
    features[3] (code "410105001001001"): features[0] has the same code: merge the two into a MultiPolygon, or correct one
    features[4]: no property "code": name the one that holds the code in code_property
    features[5] (code "410105001001004"): the geometry is Point; a cell must be a Polygon or a MultiPolygon
    features[6] (code "410105001001005"): polygon 0, ring 0 is not closed: repeat its first position at its end
    features[7] (code "410105001001006"): polygon 0, ring 0 has 3 positions; a ring needs 4 or more, the last equal to the first
    features[8] (code "410105001001007"): polygon 0, ring 0 has the position [34.0, 113.0], which is not [lon, lat] in degrees: the order may be swapped, or the file projected to metres
    "#);
}

#[test]
fn a_bad_pattern_and_an_invalid_file_are_reported() {
    let spec = GridSpec {
        code_pattern: "(".into(),
        ..spec()
    };
    let messages = Grid::parse("{", &spec).unwrap_err();
    assert!(matches!(messages[0], GridFault::BadPattern { .. }), "{messages:?}");
    assert!(matches!(messages[1], GridFault::NotGeoJson(_)), "{messages:?}");
    // A private file that is named by mistake, or on purpose, is not repeated in the message.
    for secret in [r#""hunter2""#, r#""a\"hunter2""#, r#"{"type":"hunter2"}"#, "hunter2"] {
        let messages = Grid::parse(secret, &spec).unwrap_err();
        assert!(!format!("{messages:?}").contains("hunter2"), "{messages:?}");
    }
    assert_eq!(
        faults(&file(vec![])),
        ["the file contains no cells: export the unit cells as polygons"]
    );
    assert!(Grid::parse(r#"{"type":"Feature","geometry":null,"properties":null}"#, &self::spec()).is_err());
}

proptest! {
    #[test]
    fn the_index_finds_what_a_full_search_finds(
        // Triangles of all sizes that may overlap, and points in and around them.
        triangles in prop::collection::vec(prop::collection::vec((113.0f64..113.1, 34.0f64..34.1), 3), 1..60),
        points in prop::collection::vec((112.99f64..113.11, 33.99f64..34.11), 1..40),
        radius_m in 0.0f64..2000.0,
    ) {
        let features = triangles.iter().enumerate().map(|(n, t)| {
            let ring: Vec<_> = t.iter().chain(&t[..1]).map(|(lon, lat)| json!([lon, lat])).collect();
            feature(json!(code(n)), json!([ring]))
        }).collect();
        let grid = parse(&file(features)).unwrap();
        for (lon, lat) in points {
            let p = at(lon, lat);
            let holding = grid.cells.iter().find(|c| c.contains(p)).map(|c| &c.code);
            prop_assert_eq!(grid.cell_of(p), holding);
            let plane = LocalPlane::at(p);
            let near: Vec<_> = grid.cells.iter()
                .filter(|c| c.contains(p) || c.edge_distance_m(&plane) <= radius_m).map(|c| &c.code).collect();
            prop_assert_eq!(grid.cells_within(p, radius_m), near);
        }
    }
}

/// Measures the figures for a large city in docs/performance.md: `cargo test -p gridwatch-engine --lib grid_at_scale --
/// --ignored --nocapture`.
#[test]
#[ignore = "takes seconds and asserts nothing about time"]
#[allow(clippy::disallowed_methods, reason = "measures time")]
fn grid_at_scale() {
    let timed = |what: &str, f: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        f();
        println!("{what}: {:?}", start.elapsed());
    };
    const COLUMNS: usize = 400;
    const ROWS: usize = 250;
    // Slanted, so that the extents of neighbours overlap, and with corners on one side only.
    let corner = |column: usize, row: usize| {
        let (x, y) = (column as f64, row as f64);
        [
            113.0 + x * 0.001 + y * 0.000_2 + (y * 1.7).sin() * 0.000_1,
            34.0 + y * 0.001 - x * 0.000_15,
        ]
    };
    let features = (0..COLUMNS * ROWS).map(|n| {
        let (c, r) = (n % COLUMNS, n / COLUMNS);
        let (a, b, d, e) = (corner(c, r), corner(c + 1, r), corner(c + 1, r + 1), corner(c, r + 1));
        let half = [f64::midpoint(a[0], b[0]), f64::midpoint(a[1], b[1])];
        feature(json!(format!("{n:015}")), json!([[a, half, b, d, e, a]]))
    });
    let text = file(features.collect()).to_string();
    let mut grid = None;
    timed("parse", &mut || grid = Grid::parse(&text, &spec()).ok());
    let grid = grid.unwrap();
    assert_eq!(grid.len(), 100_000);
    let mut found = None;
    timed("check", &mut || found = Some(grid.check()));
    assert_eq!(found, Some(check::GridDefects::default()));
    let middle = at(113.2, 34.1);
    timed("neighbours of all", &mut || {
        assert_eq!(grid.neighbours(grid.index_of(middle).unwrap()).len(), 8);
    });
    timed("100,000 look-ups", &mut || {
        for n in 0..100_000 {
            let n = f64::from(n);
            let p = at(113.05 + (n * 0.618).fract() * 0.3, 34.0 + (n * 0.414).fract() * 0.15);
            std::hint::black_box(grid.cell_of(p));
        }
    });
}
