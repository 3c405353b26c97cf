//! Every fault of a configuration is reported at once, with its path, line and remedy; nothing else is reported, and passwords are
//! never printed.

use std::{fs, path::Path};

use crate::config_support::*;
use gridwatch_config as config;
use gridwatch_config::{Draft, Faults};

#[test]
fn every_fault_of_the_broken_file_is_reported() {
    let draft = config::examine_with(Path::new("tests/golden/broken.toml"), &variable);
    assert!(draft.readable);
    let report = format!("{}\n\nwarnings:\n{}\n", Faults(draft.faults), Faults(draft.warnings));
    insta::with_settings!({ snapshot_path => "../golden", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("broken", report);
    });
}

#[test]
fn no_password_is_printed() {
    let broken = config::examine_with(Path::new("tests/golden/broken.toml"), &variable);
    let good = Folder::new().with("box-01", "box-01");
    assert_eq!(
        good.cameras[0].credentials.as_ref().unwrap().password.expose(),
        "hunter2"
    );
    for draft in [broken, good] {
        let json = serde_json::to_string(&draft.faults).unwrap();
        for text in [format!("{draft:?}"), json, Faults(draft.faults).to_string()] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}

#[test]
fn the_good_file_has_no_fault_and_no_warning() {
    let draft = Folder::new().with("box-01", "box-01");
    assert_eq!((messages(&draft.faults), messages(&draft.warnings)), (vec![], vec![]));
    draft.into_config().unwrap();
}

#[test]
fn a_fault_is_shown_with_its_line_and_its_remedy() {
    let folder = Folder::new();
    let mut draft = folder.with(
        "polygon = [[0.7, 0.0], [1.0, 0.0], [1.0, 0.3]]",
        "polygon = [[0.7, 0.0], [1.0, 0.0]]",
    );
    draft.faults[0].file = "configs/edge.toml".into();
    assert_eq!(
        Faults(draft.faults).to_string(),
        "cameras[0].zones[1].polygon: 2 points, a polygon needs 3 or more (configs/edge.toml:50)\n    list the \
         corners in order, as fractions of the image size: [[0.1, 0.9], [0.5, 0.4], [0.9, 0.9]]"
    );
}

#[test]
fn ledger_limits() {
    assert_faults(&[
        (
            "[grid]",
            "[ledger]\nkeep_mb = 100\n[grid]",
            "ledger.keep_mb: 100 is less than twice file_mb (64)",
        ),
        (
            "[grid]",
            "[ledger]\ndir = \"\"\n[grid]",
            "ledger.dir: must not be empty",
        ),
        (
            "[grid]",
            "[ledger]\ndir = \"edge.toml\"\n[grid]",
            "ledger.dir: edge.toml is not a directory",
        ),
        (
            "[grid]",
            "[ledger]\nkeep_days = 0\n[grid]",
            "ledger.keep_days: 0 is below the minimum of 1",
        ),
    ]);
}

#[test]
fn intake_limits() {
    assert_faults(&[
        (
            "[grid]",
            "[intake]\nlet_go_days = 366\n[grid]",
            "intake.let_go_days: 366 is above the maximum of 365",
        ),
        (
            "[grid]",
            "[intake]\nlet_go_days = \"7d\"\n[grid]",
            "intake.let_go_days: expected an integer, found a string",
        ),
    ]);
}

#[test]
fn schema_violations() {
    assert_faults(&[
        ("[node]", "[nodes]\nx = 1\n[node]", "nodes: unknown field"),
        (
            "id = \"box-01\"",
            "id = \"site\"",
            "node.id: \"site\" is a level of the topics of all boxes",
        ),
        ("state_dir = \"state\"", "", "node.state_dir: missing"),
        (
            "dwell = \"5m\"",
            "dwell = 300",
            "rules[0].dwell: expected a string, found an integer",
        ),
        ("dwell = \"5m\"", "dwell = \"5\"", "rules[0].dwell: invalid duration"),
        (
            "dwell = \"5m\"",
            "dwell = \"5m 1h\"",
            "rules[0].dwell: invalid duration",
        ),
        (
            "dwell = \"5m\"",
            "dwell = \"5m\"\npresent_share = 1.5",
            "rules[0].present_share: 1.5 is above the maximum of 1.0",
        ),
        (
            "kind = \"watch\"",
            "kind = \"look\"",
            "cameras[0].zones[0].kind: unknown value",
        ),
        ("EPSG:4490", "GCJ-02", "grid.crs: unknown value"),
        (
            "labels = [\"umbrella\"]",
            "labels = []",
            "rules[0].labels: 0 entries, at least 1 required",
        ),
        (
            "[0.1, 0.4]",
            "[0.1, 0.4, 0.5]",
            "cameras[0].zones[0].polygon[1]: 3 entries, at most 2 allowed",
        ),
    ]);
}

#[test]
fn a_missing_section_is_reported_once() {
    let draft = Folder::new().with("[broker]\nurl = \"mqtt://127.0.0.1:1883\"\n", "");
    assert_eq!(messages(&draft.faults), ["broker: missing"]);
    assert!(draft.broker.is_none());
}

#[test]
fn unresolved_references() {
    assert_faults(&[
        (
            "rules = [\"vendor\"]",
            "rules = [\"vender\"]",
            "cameras[0].zones[0].rules[0]: unknown rule \"vender\"",
        ),
        (
            "id = \"windows\"",
            "id = \"pavement\"",
            "cameras[0].zones[1].id: already used by cameras[0].zones[0]",
        ),
        (
            "\"0501\"",
            "\"0599\"",
            "rules[0].category: unknown category code \"0599\"",
        ),
        (
            "[\"umbrella\"]",
            "[\"umbrela\"]",
            "rules[0].labels[0]: no model detects \"umbrela\"",
        ),
        (
            "id = \"gate\"",
            "id = \"gate\"\nmodels = [\"yolox\"]",
            "cameras[0].models[0]: unknown model \"yolox\"",
        ),
    ]);
}

#[test]
fn a_login_over_rtsp_needs_the_built_in_client() {
    assert_faults(&[(
        "id = \"gate\"",
        "id = \"gate\"\nsource = \"gstreamer\"",
        "cameras[0].credentials: not allowed with source = \"gstreamer\": over RTSP, GStreamer sends the login to any host that a redirect names",
    )]);
}

#[test]
fn thresholds_and_times() {
    let rule = "dwell = \"5m\"";
    assert_faults(&[
        (
            rule,
            "dwell = \"5m\"\nkeep_score = 0.6",
            "rules[0].keep_score: 0.6 is above start_score (0.5)",
        ),
        (
            rule,
            "dwell = \"5m\"\nseen_m = 2",
            "rules[0].seen_n: 3 is more than seen_m (2)",
        ),
        (
            rule,
            "dwell = \"5s\"",
            "rules[0].dwell: 5s is less than evidence.min_interval (10s)",
        ),
        (rule, "dwell = \"0s\"", "rules[0].dwell: 0s is below the minimum of 1s"),
        (
            rule,
            "dwell = \"5m\"\nforget_after = \"5s\"",
            "rules[0].forget_after: 5s is less than cameras[0]'s look_every (10s): a single missed detection would end the candidate",
        ),
        (
            rule,
            "dwell = \"5m\"\nmax_gap = \"5s\"",
            "rules[0].max_gap: 5s is less than cameras[0]'s look_every (10s): every gap would count as an outage, and no dwell \
             would complete",
        ),
        (
            "id = \"gate\"",
            "id = \"gate\"\nlook_every = \"10ms\"",
            "cameras[0].look_every: 10ms is below the minimum of 500ms",
        ),
        (
            "url = \"mqtt:",
            "keep_alive = \"0s\"\nurl = \"mqtt:",
            "broker.keep_alive: 0s is below the minimum of 5s",
        ),
    ]);
    assert_warnings(&[(
        rule,
        "dwell = \"5m\"\nmax_gap = \"20s\"",
        "rules[0].max_gap: 20s is less than three times cameras[0]'s look_every (10s): one or two late looks count as an outage",
    )]);
}

#[test]
fn approved_signs() {
    let folder = Folder::new();
    let good = fs::read_to_string("tests/golden/good.toml").unwrap();
    let rule = "dwell = \"5m\"\nstands = \"wall\"\nexcept_approved = true";
    let place = "place = { lon = 120.001, lat = 30.001 }";
    let named = good
        .replace("dwell = \"5m\"", rule)
        .replace(place, &format!("{place}\napproved_signs = \"signs.toml\""));
    let head = "camera = \"gate\"\nrecorded = \"2026-11-22T10:00:00+08:00\"\nmodel = \"yolox_nano_416_coco@1.0.0\"\n";
    let draft = |text: &str, signs: &str| {
        fs::write(folder.dir.path().join("signs.toml"), signs).unwrap();
        config::examine_with(&folder.write(text), &variable)
    };
    let sign = |fields: &str| format!("{head}[[signs]]\n{fields}\n");

    // Valid files, which are part of `config_sha256`.
    let empty = draft(&named, head).into_config().unwrap();
    let one = draft(
        &named,
        &sign("box = [0.1, 0.2, 0.3, 0.4]\nlabel = \"umbrella\"\nnote = \"its permit\"\nadded = \"2026-11-22\""),
    );
    assert_eq!(messages(&one.warnings), [""; 0]);
    let one = one.into_config().unwrap();
    let approved = |c: &config::Config| c.plan.cameras[&"gate".into()].approved.clone();
    assert_eq!(approved(&empty), Some(vec![]));
    let signs = approved(&one).unwrap();
    assert_eq!((signs[0].label.as_str(), signs[0].bbox.y2), ("umbrella", 0.4));
    assert_ne!(empty.config_sha256, one.config_sha256);
    assert!(one.plan.rules[0].except_approved);

    // Faults name the file.
    for (signs, expected) in [
        (
            head.replace("gate", "lane"),
            "camera: is \"lane\", but the file is used for \"gate\"",
        ),
        (
            head.replace("10:00", "25:00"),
            "recorded: \"2026-11-22T25:00:00+08:00\" is not a timestamp",
        ),
        (format!("{head}colour = \"red\"\n"), "colour: unknown field"),
        (
            sign("box = [0.3, 0.2, 0.1, 0.4]\nlabel = \"umbrella\""),
            "signs[0].box: [0.3, 0.2, 0.1, 0.4] is not a box within the image",
        ),
        (
            sign("box = [0.1, 0.2, 1.3, 0.4]\nlabel = \"umbrella\""),
            "signs[0].box: [0.1, 0.2, 1.3, 0.4] is not a box within the image",
        ),
        (
            sign("box = [0.1, 0.2, 0.3]\nlabel = \"umbrella\""),
            "signs[0].box: 3 entries, at least 4 required",
        ),
        (
            sign("box = [0.1, 0.2, 0.3, 0.4]\nlabel = \"umbrella\"\nadded = \"yesterday\""),
            "signs[0].added: \"yesterday\" is not a date",
        ),
    ] {
        let draft = draft(&named, &signs);
        let faults = messages(&draft.faults);
        assert!(
            faults[0].starts_with(&format!("cameras[0].approved_signs: {expected}")),
            "{expected}: {faults:?}"
        );
        assert!(draft.faults[0].file.ends_with("signs.toml") && draft.faults[0].line.is_some());
        assert!(!draft.faults[0].remedy.is_empty());
    }
    fs::remove_file(folder.dir.path().join("signs.toml")).unwrap();
    let missing = config::examine_with(&folder.write(&named), &variable);
    assert!(
        messages(&missing.faults)[0].starts_with("cameras[0].approved_signs: "),
        "{missing:?}"
    );

    // Warnings.
    let unnamed = draft(&good.replace("dwell = \"5m\"", rule), "");
    assert_eq!(
        messages(&unnamed.warnings),
        ["cameras[0].approved_signs: missing: nothing is filed for this view under vendor"]
    );
    let unused = draft(&named, &sign("box = [0.1, 0.2, 0.3, 0.4]\nlabel = \"sign\""));
    assert_eq!(
        messages(&unused.warnings),
        ["cameras[0].approved_signs: approves \"sign\", but no rule with except_approved covers that label"]
    );
}

#[test]
fn urls_and_addresses() {
    let (broker, camera) = ("mqtt://127.0.0.1:1883", "rtsp://192.0.2.10/stream");
    assert_faults(&[
        (broker, "http://127.0.0.1", "broker.url: unsupported scheme \"http\""),
        (
            broker,
            "mqtt://127.0.0.1/topic",
            "broker.url: must not have a path or a query",
        ),
        (broker, "mqtt:", "broker.url: missing host"),
        (
            broker,
            "mqtts://127.0.0.1",
            "broker.ca_file: required with an mqtts:// broker URL",
        ),
        (
            "url = \"mqtt:",
            "ca_file = \"edge.toml\"\nurl = \"mqtt:",
            "broker.ca_file: not allowed with an mqtt:// broker URL, which is not encrypted",
        ),
        (
            broker,
            "mqtt://box:hunter2@127.0.0.1",
            "broker.url: contains a user name or password",
        ),
        (
            camera,
            "rtsp://admin:hunter2@192.0.2.10/",
            "cameras[0].url: contains a user name or password",
        ),
        (
            camera,
            "hunter2@192.0.2.10",
            "cameras[0].url: invalid URL: relative URL without a base",
        ),
        (camera, "rtsp:/stream", "cameras[0].url: missing host"),
        (
            camera,
            "rstp://192.0.2.10/",
            "cameras[0].url: unsupported scheme \"rstp\"",
        ),
        (
            camera,
            "file:///no/clip.mp4",
            "cameras[0].url: /no/clip.mp4 does not exist or is not a regular file",
        ),
        (
            "[broker]",
            "[telemetry]\nlisten = \"[::]:80\"\n[broker]",
            "telemetry.listen: :: is not a loopback address and would be reachable from the network",
        ),
        (
            "[broker]",
            "[telemetry]\nlisten = \"localhost\"\n[broker]",
            "telemetry.listen: not an address with a port",
        ),
        (
            "[broker]",
            "[console]\nlisten = \"all\"\n[broker]",
            "console.listen: not an address with a port",
        ),
        (
            "[broker]",
            "[console]\nlisten = \"0.0.0.0:9480\"\ntls = \"off\"\n[broker]",
            "console.tls: passwords would cross the network unencrypted",
        ),
        (
            "[broker]",
            "[console]\npublic_url = \"city.example/box-1\"\n[broker]",
            "console.public_url: not a URL of the form https://HOST/PATH/",
        ),
        (
            "[broker]",
            "[console]\nhosts = [\"https://box-1.lan\"]\n[broker]",
            "console.hosts[0]: \"https://box-1.lan\" is not a host name",
        ),
        (
            "[broker]",
            "[console]\ntrusted_proxies = [\"10.0.0.0/40\"]\n[broker]",
            "console.trusted_proxies[0]: \"10.0.0.0/40\": the prefix is longer than the address",
        ),
        (
            "[broker]",
            "[console]\nidentity_header = \"X-Forwarded-User\"\n[broker]",
            "console.identity_header: there is no trusted proxy that could set this header",
        ),
        (
            "[broker]",
            "[console]\ntrusted_proxies = [\"10.0.0.5\"]\nidentity_header = \"Cookie\"\n[broker]",
            "console.identity_header: \"cookie\" cannot carry a user's name",
        ),
        (
            "[broker]",
            "[console]\ncertificate = \"Cargo.toml\"\n[broker]",
            "console.certificate: console.key is not set",
        ),
        (
            "Asia/Shanghai",
            "Asia/Beijing",
            "node.timezone: unknown time zone \"Asia/Beijing\"",
        ),
    ]);
    assert_warnings(&[
        (
            camera,
            "rtsp://192.0.2.10/user=a_password=hunter2",
            "cameras[0].url: appears to contain a password",
        ),
        (
            "url = \"mqtt://127.0.0.1:1883\"",
            "url = \"mqtt://192.0.2.1\"\ncredentials.file = \"gate.secret\"",
            "broker.url: the password and all cases are sent unencrypted",
        ),
    ]);
}

#[test]
fn the_brokers_certificate_is_trusted_by_one_of_two_settings() {
    let url = "url = \"mqtt://127.0.0.1:1883\"";
    let (pin, pairs) = ("ab".repeat(32), vec!["AB"; 32].join(":"));
    let secured = |more: &str| format!("url = \"mqtts://127.0.0.1\"\n{more}");
    let (both, short, plain) = (
        secured(&format!("ca_file = \"edge.toml\"\npin_sha256 = \"{pin}\"")),
        secured("pin_sha256 = \"abcd\""),
        format!("{url}\npin_sha256 = \"{pin}\""),
    );
    assert_faults(&[
        (url, &both, "broker.pin_sha256: not allowed together with ca_file"),
        (url, &short, "broker.pin_sha256: not a SHA-256"),
        (
            url,
            &plain,
            "broker.pin_sha256: not allowed with an mqtt:// broker URL, which is not encrypted",
        ),
    ]);
    for written in [&pin, &pairs] {
        let draft = Folder::new().with(url, &secured(&format!("pin_sha256 = \"{written}\"")));
        assert_eq!(messages(&draft.faults), [""; 0]);
        let tls = draft.broker.unwrap().tls.unwrap();
        assert_eq!(tls.trust, gridwatch_mqtt::ServerTrust::Pin(pin.clone()));
    }
}

#[test]
fn nothing_connects_with_a_faulty_setting() {
    let url = "url = \"mqtt://127.0.0.1:1883\"";
    for faulty in [
        "url = \"mqtts://127.0.0.1\"",
        "url = \"mqtts://127.0.0.1\"\nca_fil = \"edge.toml\"",
        "url = \"mqtt://127.0.0.1\"\ncredentials = 7",
        "url = \"mqtt://127.0.0.1\"\nkeep_alive = \"1s\"",
    ] {
        assert!(Folder::new().with(url, faulty).broker.is_none(), "{faulty}");
    }
    let camera = "credentials = { file = \"gate.secret\" }";
    let faults = |draft: &Draft| draft.connection_faults.values().map(Vec::len).sum::<usize>();
    for (faulty, count) in [
        ("credentials = { file = \"missing\" }", 1),
        ("ca_file = \"edge.toml\"", 1),
        ("ca_fil = \"edge.toml\"", 1),
        ("transport = 7\ncredentials = 7", 2),
        ("look_every = \"1d\"", 0),
    ] {
        let draft = Folder::new().with(camera, faulty);
        assert!(!draft.faults.is_empty(), "{faulty}");
        assert_eq!((faults(&draft), draft.cameras.len()), (count, 1), "{faulty}");
    }
}

#[test]
fn missing_and_invalid_files() {
    let root = "@ROOT@/";
    let folder = Folder::new();
    fs::create_dir(folder.dir.path().join("half")).unwrap();
    fs::write(folder.dir.path().join("half/model.toml"), "id = 3\n").unwrap();
    fs::write(folder.dir.path().join("half/model.onnx"), "").unwrap();
    for (old, new, path, message) in [
        ("configs/grid/example.geojson", "no.geojson", "grid.file", "cannot read"),
        (
            "configs/grid/example.geojson",
            "tests/golden/broken.geojson",
            "grid.file",
            "EPSG:4326",
        ),
        (
            "configs/categories/default.toml",
            "configs",
            "grid.categories",
            "is not a regular file",
        ),
        (
            "configs/categories/default.toml",
            "LICENSE",
            "grid.categories",
            "invalid TOML",
        ),
        (
            "models/yolox_nano_416_coco",
            "models",
            "models[0].dir",
            "model.toml does not exist",
        ),
        (
            "models/yolox_nano_416_coco",
            "no-model",
            "models[0].dir",
            "is not a directory",
        ),
    ] {
        let draft = folder.with(&format!("{root}{old}"), &format!("{root}{new}"));
        assert!(!draft.faults.is_empty(), "{new}");
        for fault in &draft.faults {
            assert_eq!(fault.path, path, "{fault}");
            assert!(fault.message.contains(message), "{fault}");
        }
    }
    let draft = folder.with("@ROOT@/models/yolox_nano_416_coco", "half");
    assert!(
        draft
            .faults
            .iter()
            .all(|f| f.path.starts_with("models[0].dir: ") && f.file.ends_with("half/model.toml")),
        "{:?}",
        draft.faults
    );
    assert!(!draft.faults.is_empty());
}

#[test]
fn every_syntax_error_is_reported_with_its_line() {
    let folder = Folder::new();
    let draft = config::examine_with(&folder.write("a = \n[node\nid = \"x\"\n"), &variable);
    assert!(!draft.readable);
    let lines: Vec<_> = draft.faults.iter().filter_map(|f| f.line).collect();
    assert_eq!(lines, [1, 2]);
    let draft = config::examine_with(Path::new("no/such/file.toml"), &variable);
    assert!(
        !draft.readable && draft.faults[0].message.starts_with("cannot read the file"),
        "{:?}",
        draft.faults
    );
}

/// good.toml with the garbage model, whose labels are neither persons nor vehicles, and `evidence` as a section.
fn masked_with(evidence: &str) -> gridwatch_config::Draft {
    let folder = Folder::new();
    let good = std::fs::read_to_string("tests/golden/good.toml").unwrap();
    let text = good
        .replace("models/yolox_nano_416_coco", "models/garbage_nano_416")
        .replace("labels = [\"umbrella\"]", "labels = [\"garbage\"]")
        .replace("[[rules]]", &format!("{evidence}\n\n[[rules]]"));
    config::examine_with(&folder.write(&text), &variable)
}

#[test]
fn masking_that_no_model_can_do_is_a_fault() {
    let draft = masked_with("");
    assert_eq!(
        messages(&draft.faults),
        [
            "evidence.mask_models: no model detects faces or persons in the pictures of camera gate, so they cannot be masked and no case \
             could be filed"
        ]
    );
    assert!(draft.faults[0].remedy.contains("yunet_n"), "{:?}", draft.faults);
    // A replay makes no pictures.
    assert!(draft.into_replay_config().is_ok());
    let faces = "[evidence]\nmask_models = [\"@ROOT@/models/yunet_n\"]";
    let draft = masked_with(faces);
    assert_eq!(messages(&draft.faults), [""; 0]);
    assert_eq!(
        messages(&draft.warnings),
        [
            "evidence.mask_models: no model detects vehicles in the pictures of camera gate, so licence plates leave the box unmasked"
        ]
    );
    let both = faces.replace("yunet_n\"]", "yunet_n\", \"@ROOT@/models/yolox_nano_416_coco\"]");
    let draft = masked_with(&both);
    assert_eq!((messages(&draft.faults), messages(&draft.warnings)), (vec![], vec![]));
    // On purpose it is possible, and never silent.
    let draft = masked_with("[evidence]\nmask = false");
    assert_eq!(messages(&draft.faults), [""; 0]);
    assert_eq!(
        messages(&draft.warnings),
        ["evidence.mask: faces and licence plates leave the box unmasked"]
    );
}
