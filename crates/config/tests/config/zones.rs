//! How many zones a view may have.

use crate::sample::Folder;

/// A folder whose second camera has this many zones.
fn with_zones(count: usize) -> Folder {
    let folder = Folder::new();
    let mut text = String::from(
        "[[cameras]]\nid = \"lane\"\nurl = \"rtsp://192.0.2.11/stream\"\nplace = { lon = 120.001, lat = 30.001 }\n",
    );
    for n in 0..count {
        text += &format!(
            "[[cameras.zones]]\nid = \"z{n}\"\nkind = \"watch\"\npolygon = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]\n"
        );
    }
    folder.write("conf.d/lane.toml", &text);
    folder
}

#[test]
fn a_view_has_at_most_200_zones() {
    assert_eq!(with_zones(200).faults(), [""; 0]);
    let faults = with_zones(201).faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].contains("cameras[1].zones: too many zones: 201, at most 200"),
        "{faults:?}"
    );
}
