//! A wall with two small ads (a composite): each advertiser's number is read from the stream and filed once.

use std::time::Duration;

use crate::broker::Broker;
use crate::daemon::{Daemon, clip_from, json_lines, root};
use gridwatch_config::raw;
use gridwatch_farm::{Farm, FarmConfig, MountConfig};

const CAMERA: &str = "street-a";

/// The numbers on the wall (tests/fixtures/reading).
const NUMBERS: [&str; 2] = ["02144268128", "14771885142"];

fn read_numbers(file: &mut raw::File) {
    let models = root().join("models");
    let table = format!(
        "finder = {:?}\nspeller = {:?}\nevery = \"10s\"\n",
        models.join("ppocr_v6_text_det"),
        models.join("ppocr_v6_rec")
    );
    file.reading = Some(toml::from_str(&table).unwrap());
    let rule = "id = \"small-ads\"\ncategory = \"0201\"\nlabels = [\"small_ad\"]\ndwell = \"15s\"\nstart_score = 0.8\nkeep_score = 0.5\n\
                seen_n = 2\nmin_area = 0.0004\nforget_after = \"45s\"\nmax_gap = \"31s\"\nstands = \"wall\"\n";
    file.rules = vec![toml::from_str(rule).unwrap()];
    for camera in &mut file.cameras {
        camera.read_numbers = true;
        camera.zones = Vec::new();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_number_on_a_wall_is_filed_once_with_the_number() {
    let dir = tempfile::tempdir().unwrap();
    let wall = root().join("tests/fixtures/reading/wall-4.jpg");
    // With sensor noise: an unchanging picture would count as frozen.
    let clip = clip_from(
        dir.path(),
        "wall",
        &["-loop", "1", "-framerate", "10", "-i", wall.to_str().unwrap()],
        &["-t", "10", "-vf", "noise=alls=4:allf=t"],
    );
    let farm = Farm::start(FarmConfig {
        mounts: vec![MountConfig {
            name: CAMERA.into(),
            clip,
            offset: Duration::ZERO,
        }],
        ..FarmConfig::default()
    })
    .unwrap();
    let broker = Broker::start();
    let mut daemon = Daemon::start_with(dir.path(), &farm, &[CAMERA], broker.port, read_numbers);
    daemon.until("two cases", |d| {
        (d.metric("gridwatch_cases_total", "") >= 2.0).then_some(())
    });
    let looks = daemon.metric("gridwatch_looks_total", "");
    // Time for as many readings again as the two cases took.
    daemon.until("as many looks again", |d| {
        (d.metric("gridwatch_looks_total", "") >= 2.0 * looks).then_some(())
    });

    let state = dir.path().join("state");
    let state = state.to_str().unwrap();
    let mut numbers: Vec<String> = json_lines(&["cases", "list", "--json", "--state", state])
        .iter()
        .map(|case| {
            let shown = json_lines(&[
                "cases",
                "show",
                case["case_id"].as_str().unwrap(),
                "--json",
                "--state",
                state,
            ]);
            let record = &shown[0]["record"];
            let number = record["advert_number"].as_str().unwrap();
            assert_eq!(record["category_code"], "0201");
            assert!(record["dedup_key"].as_str().unwrap().ends_with(number), "{record}");
            let description = record["description"].as_str().unwrap();
            let text = record["advert_text"].as_str().unwrap();
            assert!(description.contains(number) && description.contains(text), "{record}");
            assert!(text.chars().any(|c| c.is_ascii_digit()), "{record}");
            assert!(record["advert_text_confidence"].as_f64().unwrap() > 0.5, "{record}");
            number.to_owned()
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, NUMBERS);
    assert!(daemon.stop().success());
}
