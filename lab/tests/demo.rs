//! `gridwatch-lab demo --once`: three cameras, a broker, the daemon and a subscriber; files exactly the three cases, each with its
//! pictures, and leaves nothing running.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeMap, path::Path};

use support::{gridwatch, lab};

#[test]
fn the_demo_files_each_problem_once_though_two_cameras_see_it_and_the_broker_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let output = lab(&["demo", "--once", "--json", "--break-broker", "20", "--state", state])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("The broker is up again."), "{stderr}");
    let received: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let mut by_category = BTreeMap::new();
    for case in &received {
        let code = case["category_code"].as_str().unwrap();
        assert!(
            by_category.insert(code, case).is_none(),
            "{code} arrived twice: {stderr}"
        );
    }
    assert_eq!(
        by_category.keys().collect::<Vec<_>>(),
        [&"0102", &"0202", &"0501"],
        "{stderr}"
    );
    // Only the banner is filed, and neither of the two approved boards beside it.
    let banner = by_category["0202"];
    assert_eq!(banner["camera"], "street-a", "{stderr}");
    for case in &received {
        let pictures = case["pictures"].as_array().unwrap();
        let mut roles: Vec<_> = pictures.iter().map(|p| p["role"].as_str().unwrap()).collect();
        roles.sort_unstable();
        assert_eq!(roles, ["closeup", "overlay", "overlay", "scene", "scene"]);
        for picture in pictures {
            let opened = image::open(Path::new(picture["path"].as_str().unwrap())).unwrap();
            if picture["role"] == "scene" {
                assert_eq!((opened.width(), opened.height()), (1280, 720), "full resolution");
            }
        }
    }
    let listed = gridwatch(&["cases", "list", "--json", "--state", state])
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let filed: Vec<serde_json::Value> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let ids = |cases: &[serde_json::Value]| {
        let mut ids: Vec<_> = cases
            .iter()
            .map(|c| c["case_id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&filed), ids(&received));
    assert!(filed.iter().all(|c| c["queued"] == 0), "{filed:?}");
}
