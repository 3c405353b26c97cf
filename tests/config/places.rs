//! Faults in geometry: zones, coordinate reference systems, lenses, point pairs, cells.

use std::fs;

use crate::config_support::*;
use gridwatch_config as config;
use gridwatch_config::Draft;
use gridwatch_engine::geometry::Crs;

#[test]
fn zone_and_place_faults() {
    assert_faults(&[
        (
            "[0.6, 0.9]]",
            "[0.6, 1.9]]",
            "cameras[0].zones[0].polygon: point 3 [0.6, 1.9] is outside the image",
        ),
        (
            "[0.1, 0.4], [0.6, 0.4], [0.6, 0.9]]",
            "[0.6, 0.4], [0.1, 0.4], [0.6, 0.9]]",
            "cameras[0].zones[0].polygon: edges 0-1 and 2-3 cross",
        ),
        (
            "[1.0, 0.0], [1.0, 0.3]]",
            "[0.8, 0.0], [1.0, 0.0]]",
            "cameras[0].zones[1].polygon: area is 0.0000 % of the image, too small to contain anything",
        ),
        (
            "lon = 120.001",
            "lon = 220.001",
            "cameras[0].place.lon: 220.001 is above the maximum of 180.0",
        ),
    ]);
    assert_warnings(&[
        (
            "lon = 120.001, lat = 30.001",
            "lon = 121.001, lat = 30.001",
            "cameras[0].place: outside every cell of the grid: detections placed here are not filed (outside_grid)",
        ),
        (
            "kind = \"privacy\"",
            "kind = \"privacy\"\nrules = [\"vendor\"]",
            "cameras[0].zones[1].rules: has no effect: a privacy zone applies to every rule",
        ),
    ]);
}

#[test]
fn reference_systems_and_lenses() {
    let (camera, calibration) = ("id = \"gate\"", "[cameras.calibration]");
    assert_faults(&[
        (
            camera,
            "id = \"gate\"\ncrs = \"BD-09\"",
            "cameras[0].crs: unknown coordinate reference system \"BD-09\": use EPSG:4490, EPSG:4326, GCJ-02, or \
             local:LON,LAT,BEARING (a plane in metres: its origin in EPSG:4490, and where its y axis points in degrees from \
             north)",
        ),
        (
            camera,
            "id = \"gate\"\ncrs = \"local:120.001,30.0009,0\"",
            "cameras[0].crs: is a local plane in metres, but `place` needs longitude and latitude",
        ),
        (
            calibration,
            "[cameras.calibration]\ncrs = \"local:120.001,30.0009\"",
            "cameras[0].calibration.crs: invalid local plane \"local:120.001,30.0009\": use local:LON,LAT,BEARING in \
             degrees, such as local:120.001,30.0009,12.5",
        ),
        (
            calibration,
            "[cameras.calibration]\ndistortion = { k1 = -0.4 }",
            "cameras[0].calibration.distortion: k1 = -0.4, k2 = 0 is not invertible: two points of the scene would share one image point",
        ),
        (
            "[120.000956, 30.000894]",
            "[30.000894, 120.000956]",
            "cameras[0].calibration.points[0].ground: [30.000894, 120.000956] is not a valid position in EPSG:4490: write [lon, lat] \
             in degrees",
        ),
    ]);
}

#[test]
fn coordinates_are_converted_to_the_grids_system() {
    let folder = Folder::new();
    let good = folder.with("box-01", "box-01");
    let expected = &good.surveys[&"gate".into()];
    let text = fs::read_to_string("tests/golden/good.toml").unwrap();
    let gcj = |lon: f64, lat: f64| Crs::Cgcs2000.convert([lon, lat], Crs::Gcj02).unwrap();
    let mut shifted = text.clone();
    for (_, g) in &expected.pairs {
        let [lon, lat] = gcj(g.lon, g.lat);
        shifted = shifted.replacen(&format!("[{:.6}, {:.6}]", g.lon, g.lat), &format!("[{lon}, {lat}]"), 1);
    }
    let [lon, lat] = gcj(120.001, 30.001);
    shifted = shifted.replace("lon = 120.001, lat = 30.001", &format!("lon = {lon}, lat = {lat}"));

    let unstated = config::examine_with(&folder.write(&shifted), &variable);
    assert_eq!(
        messages(&unstated.warnings),
        ["cameras[0].place: outside every cell of the grid: detections placed here are not filed (outside_grid)"]
    );
    assert!(
        unstated.warnings[0].remedy.contains("GCJ-02"),
        "{:?}",
        unstated.warnings
    );

    let stated = shifted.replace("id = \"gate\"", "id = \"gate\"\ncrs = \"GCJ-02\"");
    let draft = config::examine_with(&folder.write(&stated), &variable);
    assert_eq!((messages(&draft.faults), messages(&draft.warnings)), (vec![], vec![]));
    for (found, expected) in draft.surveys[&"gate".into()].pairs.iter().zip(&expected.pairs) {
        assert!(
            (found.1.lon - expected.1.lon).abs() < 1e-8 && (found.1.lat - expected.1.lat).abs() < 1e-8,
            "{found:?} {expected:?}"
        );
    }
}

#[test]
fn a_changed_lens_changes_the_calibration_version() {
    let version = |draft: Draft| draft.cameras[0].presets[0].calibration_version.clone().unwrap();
    let folder = Folder::new();
    let bent = "[cameras.calibration]\ndistortion = { k1 = -0.01 }";
    assert_ne!(
        version(folder.with("[cameras.calibration]", bent)),
        version(folder.with("box-01", "box-01"))
    );
}

#[test]
fn overlaps_and_gaps_between_cells_are_reported_with_their_position() {
    let folder = Folder::new();
    let cell = |code: u32, west: f64, south: f64, east: f64, north: f64| {
        format!(
            r#"{{"type": "Feature", "properties": {{"code": "{code:015}"}}, "geometry": {{"type": "Polygon", "coordinates":
            [[[{west}, {south}], [{east}, {south}], [{east}, {north}], [{west}, {north}], [{west}, {south}]]]}}}}"#
        )
    };
    // Four around a gap; the second reaches over the first.
    let cells = [
        cell(1, 120.0, 30.0, 120.003, 30.001),
        cell(2, 120.0, 30.0009, 120.001, 30.003),
        cell(3, 120.002, 30.001, 120.003, 30.003),
        cell(4, 120.001, 30.002, 120.002, 30.003),
    ];
    let grid = format!(
        r#"{{"type": "FeatureCollection", "crs": {{"type": "name", "properties": {{"name": "EPSG:4490"}}}}, "features": [{}]}}"#,
        cells.join(", ")
    );
    fs::write(folder.dir.path().join("broken.geojson"), grid).unwrap();
    let draft = folder.with("@ROOT@/configs/grid/example.geojson", "broken.geojson");
    assert_eq!(
        messages(&draft.faults),
        ["grid.file: cells 000000000000001 and 000000000000002 overlap by 1070 m² at [120.000500, 30.000950]"]
    );
    assert_eq!(
        messages(&draft.warnings),
        ["grid.file: no cell covers 10696 m² at [120.001500, 30.001500], although cells surround it"]
    );
}

#[test]
fn a_collinear_calibration_names_its_points() {
    let line = "calibration.points = [\n  { picture = [0.1, 0.9], ground = [120.0001, 30.0] },\n  { picture = [0.2, 0.8], \
                ground = [120.0002, 30.0] },\n  { picture = [0.3, 0.7], ground = [120.0003, 30.0] },\n  { picture = [0.4, \
                0.6], ground = [120.0004, 30.0] },\n]\n";
    let good = fs::read_to_string("tests/golden/good.toml").unwrap();
    let (start, end) = (
        good.find("[cameras.calibration]").unwrap(),
        good.find("[[cameras.zones]]").unwrap(),
    );
    let folder = Folder::new();
    let draft = folder.with(&good[start..end], line);
    let [messages] = &messages(&draft.faults)[..] else {
        panic!("{:?}", draft.faults)
    };
    assert!(messages.starts_with("cameras[0].calibration.points: "), "{messages}");
    assert!(
        messages.ends_with("image points: [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]"),
        "{messages}"
    );
}

#[test]
fn swapped_lon_and_lat_are_recognised() {
    let folder = Folder::new();
    let grid = r#"{"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": "EPSG:4490"}}, "features": [
        {"type": "Feature", "properties": {"code": "000000001001001"}, "geometry": {"type": "Polygon",
         "coordinates": [[[80.0, 40.0], [80.1, 40.0], [80.1, 40.1], [80.0, 40.1], [80.0, 40.0]]]}}]}"#;
    fs::write(folder.dir.path().join("west.geojson"), grid).unwrap();
    let good = fs::read_to_string("tests/golden/good.toml").unwrap();
    let text = good
        .replace("@ROOT@/configs/grid/example.geojson", "west.geojson")
        .replace("lon = 120.001, lat = 30.001", "lon = 40.05, lat = 80.05");
    let draft = config::examine_with(&folder.write(&text), &variable);
    assert_eq!(
        draft.warnings.iter().map(|w| w.remedy.as_str()).collect::<Vec<_>>(),
        ["lon and lat are swapped"]
    );
}
