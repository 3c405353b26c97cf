//! Files that the configuration names: what an editor on Windows writes is accepted, what is no file or has no end is refused.

use std::{fs, os::unix::fs::symlink, process::Command};

use crate::config_support::*;
use gridwatch_config as config;

const GRID: &str = "@ROOT@/configs/grid/example.geojson";
const SECRET: &str = "credentials = { file = \"gate.secret\" }";

#[test]
fn a_byte_order_mark_in_the_configuration_a_secret_or_the_grid_is_ignored() {
    let folder = Folder::new();
    folder.secret("gate.secret", "\u{feff}admin:hunter2\r\n", 0o600);
    let cells = fs::read_to_string("configs/grid/example.geojson").unwrap();
    let grid = folder.dir.path().join("grid.geojson");
    fs::write(&grid, format!("\u{feff}{cells}")).unwrap();
    let good = fs::read_to_string("tests/golden/good.toml").unwrap();
    let good = good.replacen(GRID, grid.to_str().unwrap(), 1);
    let draft = config::examine_with(&folder.write(&format!("\u{feff}{good}")), &variable);
    assert_eq!(messages(&draft.faults), [""; 0]);
    let config = draft.into_config().unwrap();
    let login = config.cameras[0].credentials.as_ref().unwrap();
    assert_eq!((login.user.expose(), login.password.expose()), ("admin", "hunter2"));
}

#[test]
fn a_file_that_waits_never_ends_or_is_huge_is_a_fault() {
    let folder = Folder::new();
    let at = |name: &str| folder.dir.path().join(name);
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    symlink("/dev/zero", at("endless")).unwrap();
    fs::File::create(at("huge")).unwrap().set_len(1 << 40).unwrap();
    folder.secret("huge.secret", "", 0o600);
    fs::File::options()
        .write(true)
        .open(at("huge.secret"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    for (old, new, fault) in [
        (GRID, at("fifo"), "grid.file: "),
        (GRID, at("endless"), "grid.file: "),
        (
            GRID,
            at("huge"),
            "grid.file: cannot read the file: larger than 1024 MiB",
        ),
        (SECRET, at("fifo"), "cameras[0].credentials.file: "),
        (SECRET, at("endless"), "cameras[0].credentials.file: "),
        (SECRET, at("huge.secret"), "cameras[0].credentials.file: "),
    ] {
        let new = match old {
            SECRET => format!("credentials = {{ file = {new:?} }}"),
            _ => new.display().to_string(),
        };
        let found = messages(&folder.with(old, &new).faults);
        assert!(found.len() == 1 && found[0].starts_with(fault), "{new}: {found:?}");
    }
}
