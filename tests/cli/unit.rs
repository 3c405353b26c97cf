//! The systemd unit in `edge-deploy/` lets the console save the configuration, and hands the service nothing that root reads.

use std::{fs, path::Path};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("edge-deploy").join(name);
    fs::read_to_string(path).unwrap()
}

/// The values of a setting, without the `-` that lets a path be missing.
fn values<'a>(unit: &'a str, setting: &str) -> Vec<&'a str> {
    let lines = unit
        .lines()
        .filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    lines.map(|value| value.strip_prefix('-').unwrap_or(value)).collect()
}

/// The folder of the configuration that a command of the unit names.
fn config_dir(command: &str) -> &Path {
    let (_, config) = command.split_once("--config ").unwrap();
    Path::new(config).parent().unwrap()
}

#[test]
fn the_service_can_save_its_configuration_and_nothing_that_root_reads() {
    let unit = read("gridwatch.service");
    let [start] = values(&unit, "ExecStart")[..] else {
        panic!("{unit}")
    };
    let [reload] = values(&unit, "ExecReload")[..] else {
        panic!("{unit}")
    };
    let folder = config_dir(start);
    assert_eq!(folder, config_dir(reload));
    let writable = values(&unit, "ReadWritePaths");
    assert_eq!(writable, [folder.to_str().unwrap()]);

    // A dynamic user would have another number after each start, and own no file in /etc.
    assert_eq!(values(&unit, "DynamicUser"), [""; 0]);
    let [user] = values(&unit, "User")[..] else {
        panic!("{unit}")
    };
    let users = read("gridwatch.sysusers");
    assert!(
        users.lines().any(|line| line.starts_with(&format!("u {user} - "))),
        "{users}"
    );

    let state = Path::new("/var/lib").join(values(&unit, "StateDirectory")[0]);
    let read_by_root = ["EnvironmentFile", "LoadCredential", "LoadCredentialEncrypted"];
    // Those that are comments are examples, to be followed.
    let unit = unit.replace("# ", "");
    for file in read_by_root.iter().flat_map(|setting| values(&unit, setting)) {
        let file = Path::new(file.split_whitespace().next().unwrap().rsplit(':').next().unwrap());
        assert!(
            !file.starts_with(folder) && !file.starts_with(&state),
            "{}",
            file.display()
        );
    }

    let readme = read("README.md");
    for (command, times) in [
        (format!("sudo chown -R {user}:{user} {}", folder.display()), 2),
        ("sudo systemd-sysusers gridwatch.conf".into(), 2),
        (
            "edge-deploy/gridwatch.sysusers /usr/lib/sysusers.d/gridwatch.conf".into(),
            2,
        ),
    ] {
        assert_eq!(readme.matches(&command).count(), times, "{command}");
    }
}
