//! The demo's configuration, for the unit tests of the daemon.

use std::{fs, path::Path, time::Duration};

use gridwatch_config::{self as config, Config, raw};

/// The repository root.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The demo's configuration with one worker and its state in `dir`, changed by `edit`.
pub(super) fn demo_config(dir: &Path, edit: impl FnOnce(&mut raw::File)) -> Config {
    let configs = root().join("configs");
    let mut file: raw::File = toml::from_str(&fs::read_to_string(configs.join("demo.toml")).unwrap()).unwrap();
    file.node.state_dir = dir.join("state");
    for path in file.data_paths_mut() {
        *path = configs.join(&*path);
    }
    file.runtime.workers = Some(1);
    edit(&mut file);
    let path = dir.join("edge.toml");
    fs::write(&path, toml::to_string(&file).unwrap()).unwrap();
    config::load(&path).unwrap_or_else(|e| panic!("{e}"))
}

/// Makes the first camera tour between two presets, `north` and `south`, and removes the others.
pub(super) fn make_tour(file: &mut raw::File) {
    file.cameras.truncate(1);
    let camera = &mut file.cameras[0];
    let preset = |id: &str| raw::Preset {
        id: id.into(),
        address: None,
        place: camera.place.clone().unwrap(),
        calibration: None,
        approved_signs: None,
        zones: Vec::new(),
    };
    *camera = raw::Camera {
        presets: vec![preset("north"), preset("south")],
        tour: Some(raw::Span(Duration::from_secs(60))),
        place: None,
        calibration: None,
        approved_signs: None,
        address: None,
        zones: Vec::new(),
        ..camera.clone()
    };
}
