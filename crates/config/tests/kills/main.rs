//! A process that saves is killed at any moment: the old or the new configuration is there whole. A binary of its own, because the test
//! runs itself as the process that is killed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../config/sample.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod sample;

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use gridwatch_base::digest::sha256_hex;
use gridwatch_config::{
    edit::{Editor, SaveRequest, Versions},
    files::ConfigFiles,
};
use sample::Folder;

const KILLS: usize = 200;
const MAIN: &str = "GRIDWATCH_TEST_SAVES";

const LANE: &str = "[[cameras]]\nid = \"lane\" # narrow\nurl = \"rtsp://192.0.2.11/stream\"\nplace = { lon = 120.001, lat = 30.001 }\nlook_every = \"1s\"\n";

/// The process that is killed: saves without end, in one file and in two by turns.
#[test]
#[ignore = "run by the other test"]
fn saves_without_end() {
    let main = PathBuf::from(env::var_os(MAIN).unwrap());
    for n in 1.. {
        let mut editor = Editor::open(&main).unwrap();
        let look = json!(format!("{}ms", fastrand::u32(500..=30_000)));
        // Both cameras always have the same period.
        for camera in ["gate", "lane"] {
            if n % 2 == 0 {
                editor.set(&format!("cameras[{camera}].look_every"), &look).unwrap();
            }
        }
        // Far above what the looks and evidence.min_interval ask for: a shorter one is a fault.
        editor
            .set("rules[vendor].dwell", &json!(format!("{}s", fastrand::u32(600..=9999))))
            .unwrap();
        let revision = editor.revision().to_owned();
        let request = SaveRequest {
            expected_revision: &revision,
            who: "child",
            why: "again",
        };
        // Said before and after, so that the parent can kill within.
        println!("saving");
        editor.save(&request).unwrap();
        println!("saved");
    }
}

/// Which index file there is: another one whenever it is written.
fn index(folder: &Folder) -> Option<u64> {
    let metadata = folder.path("state/configurations/index.json").metadata();
    metadata.ok().map(|metadata| metadata.ino())
}

fn start(folder: &Folder) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "saves_without_end", "--ignored", "--nocapture"])
        .env(MAIN, folder.main())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn killed_at_any_moment_the_old_or_the_new_configuration_is_there_whole() {
    let folder = Folder::new();
    folder.replace("edge.toml", "credentials =", "look_every = \"1s\"\ncredentials =");
    folder.write("conf.d/lane.toml", LANE);
    let versions = Versions::of(&folder.main()).unwrap();
    versions.record_present().unwrap();
    let mut interrupted = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for n in 0..KILLS {
        let mut child = start(&folder);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // From the first save on, whatever the machine's speed; then a moment within a save.
        let saves = fastrand::usize(0..2);
        let mut said = (&mut lines)
            .map_while(Result::ok)
            .filter(|line| line.ends_with("saving"));
        assert!(said.nth(saves).is_some(), "the child has ended");
        if n % 2 == 0 {
            thread::sleep(Duration::from_micros(fastrand::u64(0..50_000)));
        } else {
            // The checks take most of a save: from when the version is in the index, its files are written.
            let before = index(&folder);
            let until = Instant::now() + Duration::from_secs(60);
            while index(&folder) == before && Instant::now() < until {
                thread::yield_now();
            }
            thread::sleep(Duration::from_micros(fastrand::u64(0..1500)));
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let list = versions.list().unwrap_or_else(|e| panic!("kill {n}: {e}"));
        assert!(list.len() <= 21, "{}", list.len());
        let known: BTreeSet<(&str, &str)> = list
            .iter()
            .flat_map(|v| &v.files)
            .map(|f| (f.name.as_str(), f.sha256.as_str()))
            .collect();
        // Each file as it lies there.
        for name in ["edge.toml", "conf.d/lane.toml"] {
            let sha256 = sha256_hex(folder.read(name).as_bytes());
            assert!(
                known.contains(&(name, sha256.as_str())),
                "kill {n}: {name} is no version"
            );
        }
        // The set, as it is read.
        let revision = ConfigFiles::read(&folder.main()).revision();
        assert!(list.iter().any(|v| v.revision == revision), "kill {n}: a mixture");
        let config = folder.load();
        assert_eq!(config.cameras[0].look_every, config.cameras[1].look_every, "kill {n}");
        assert!(folder.read("conf.d/lane.toml").contains("# narrow\n"));
        for (what, path) in [
            ("journal", ".edge.toml.save"),
            ("main file", ".edge.toml.new"),
            ("part", "conf.d/.lane.toml.new"),
            ("index", "state/configurations/.index.json.new"),
        ] {
            if folder.path(path).exists() {
                interrupted.insert(what);
            }
        }
        seen.insert(revision);
    }
    println!(
        "{} revisions after {KILLS} kills; found interrupted: {interrupted:?}",
        seen.len()
    );
    assert!(seen.len() > KILLS / 10, "the kills have left hardly any save");
    // The next save removes what the kills have left.
    let mut editor = Editor::open(&folder.main()).unwrap();
    editor.set("rules[vendor].dwell", &json!("10s")).unwrap();
    let revision = editor.revision().to_owned();
    let request = SaveRequest {
        expected_revision: &revision,
        who: "parent",
        why: "",
    };
    editor.save(&request).unwrap();
    assert!(!folder.path(".edge.toml.save").exists() && !folder.path(".edge.toml.new").exists());
    assert_eq!(versions.list().unwrap().len(), 20);
}
