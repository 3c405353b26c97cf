//! `gridwatch camera probe` and `gridwatch discover`: real streams of the farm, behind a device that speaks ONVIF.

use std::{
    collections::BTreeMap,
    fs,
    net::UdpSocket,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use gridwatch_config::raw;
use gridwatch_farm::{Auth, AuthMethod, Clip, Farm, FarmConfig, MountConfig};
use jiff::SignedDuration;
use serde_json::Value;

use crate::{
    clips::{SMALL, Spec, clip},
    onvif_device::{DeviceLogin, DeviceScript, OnvifDevice, Thief},
};

const USER: &str = "admin";
const PASSWORD: &str = "a-Secret:word&1";

/// A camera with both streams.
fn farm(main: Arc<Clip>, sub: Arc<Clip>, method: AuthMethod) -> Farm {
    let mount = |name: &str, clip| MountConfig {
        name: name.into(),
        clip,
        offset: Duration::ZERO,
    };
    Farm::start(FarmConfig {
        auth: Some(Auth {
            method,
            user: USER.into(),
            password: PASSWORD.into(),
        }),
        mounts: vec![mount("main", main), mount("sub", sub)],
        ..FarmConfig::default()
    })
    .unwrap()
}

fn street() -> Arc<Clip> {
    gridwatch_farm::clip(Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/clips/street-a.mp4")).unwrap()
}

/// A device that names the farm's streams.
fn device(farm: &Farm, brand: &'static str, login: DeviceLogin) -> DeviceScript {
    let tokens = match brand {
        "hikvision" => ["Profile_1", "Profile_2"],
        _ => ["MediaProfile000", "MediaProfile001"],
    };
    DeviceScript {
        rtsp: format!("127.0.0.1:{}", farm.port()),
        paths: BTreeMap::from([(tokens[0], "main"), (tokens[1], "sub")]),
        ..DeviceScript::new(brand, login)
    }
}

fn probe(dir: &Path, target: &str, more: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .args(["camera", "probe", target])
        .args(more)
        .current_dir(dir)
        .env("GATE_LOGIN", format!("{USER}:{PASSWORD}"))
        .env("WRONG_LOGIN", format!("{USER}:wrong-horse"))
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    for text in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(text);
        assert!(
            !text.contains("Secret:word") && !text.contains("wrong-horse"),
            "a password is shown: {text}"
        );
    }
    output
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn json(output: &Output, code: i32) -> Value {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}{}",
        errors(output),
        String::from_utf8_lossy(&output.stdout)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn codes(report: &Value) -> Vec<&str> {
    let advice = report["advice"].as_array().unwrap();
    advice.iter().map(|a| a["code"].as_str().unwrap()).collect()
}

/// The snippet is a camera of the configuration, once its place is set.
fn camera(report: &Value) -> raw::Camera {
    #[derive(serde::Deserialize)]
    struct Snippet {
        cameras: Vec<raw::Camera>,
    }
    let snippet: Snippet = toml::from_str(report["snippet"].as_str().unwrap()).unwrap();
    let [camera] = <[raw::Camera; 1]>::try_from(snippet.cameras).ok().unwrap();
    camera
}

#[test]
fn a_camera_is_asked_received_and_judged() {
    let farm = farm(street(), clip(SMALL), AuthMethod::Digest);
    let device = OnvifDevice::start(DeviceScript {
        clock: SignedDuration::from_secs(600),
        ..device(&farm, "hikvision", DeviceLogin::HttpDigest)
    });
    let dir = tempfile::tempdir().unwrap();
    let more = [
        "--credentials-env",
        "GATE_LOGIN",
        "--id",
        "gate",
        "--for",
        "6s",
        "--json",
    ];
    let output = probe(dir.path(), &device.address().to_string(), &more);
    let report = json(&output, 0);
    let facts = &report["facts"];
    assert_eq!(
        (&facts["brand"], &facts["proposed"]),
        (&"hikvision".into(), &"main".into())
    );
    assert_eq!(facts["device"]["information"]["model"], "DS-2CD2T47G2-L");
    let [main, sub] = facts["streams"].as_array().unwrap().as_slice() else {
        panic!("{facts}")
    };
    let received = &main["outcome"];
    assert_eq!(
        (&received["width"], &received["height"], &received["codec"]),
        (&1280.into(), &720.into(), &"h264".into())
    );
    // The clip has 10 pictures a second; a busy machine sends them late.
    assert!(
        (4.0..20.0).contains(&received["frame_rate"].as_f64().unwrap()),
        "{received}"
    );
    assert_eq!(
        (&received["login"], &received["loss"]),
        (&"Digest MD5".into(), &0.0.into())
    );
    assert_eq!(
        (&sub["outcome"]["width"], &sub["announced"]["token"]),
        (&320.into(), &"Profile_2".into())
    );
    // The clock of the device, ten minutes ahead; that of the streams is right.
    assert!(
        received["clock_difference_s"].as_f64().is_none_or(|d| d.abs() < 5.0),
        "{received}"
    );
    let codes = codes(&report);
    assert!(
        codes.contains(&"clock_wrong") && codes.contains(&"sub_stream_small"),
        "{report:#}"
    );
    for wrong in [
        "stream_fails",
        "no_login",
        "address_elsewhere",
        "packet_loss",
        "picture_coarse",
        "onvif_fails",
    ] {
        assert!(!codes.contains(&wrong), "{wrong}: {report:#}");
    }
    let advice = report["advice"].as_array().unwrap();
    let clock = advice.iter().find(|advice| advice["code"] == "clock_wrong").unwrap();
    assert!(
        clock["text"]
            .as_str()
            .unwrap()
            .contains("System Settings → Time Settings"),
        "{clock}"
    );

    let camera = camera(&report);
    assert_eq!((camera.id.as_str(), camera.url.clone()), ("gate", farm.url("main")));
    assert_eq!(camera.credentials.unwrap().env.as_deref(), Some("GATE_LOGIN"));
    assert_eq!(camera.auth, gridwatch_camera::Auth::Digest);
    println!("first picture after {} s", received["first_picture_s"]);
}

#[test]
fn a_pasted_url_is_judged_without_onvif_and_in_chinese() {
    let long = Spec {
        frames: 300,
        gop: 150,
        ..SMALL
    };
    let farm = farm(clip(long), clip(SMALL), AuthMethod::Digest);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gate.secret"), format!("{USER}:{PASSWORD}")).unwrap();
    let private = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
    fs::set_permissions(dir.path().join("gate.secret"), private).unwrap();
    let more = [
        "--credentials-file",
        "gate.secret",
        "--no-onvif",
        "--language",
        "zh",
        "--brand",
        "dahua",
    ];
    let output = probe(dir.path(), &farm.url("main"), &more);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}{}", errors(&output));
    for part in [
        "main  ",
        "h264 320×240, ",
        "Digest MD5, first picture after ",
        "主码流：I 帧间隔 ",
        "并关闭智能编码（Smart Codec）（菜单：设置 → 相机设置 → 视频 → 视频码流 → I 帧间隔）",
        "分辨率 320×240 偏低",
        "[[cameras]]",
        "auth = \"digest\"",
        "gate.secret",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_password_itself_is_not_sent_unless_asked_for() {
    let farm = farm(clip(SMALL), clip(SMALL), AuthMethod::Basic);
    let dir = tempfile::tempdir().unwrap();
    let url = farm.url("main");
    let more = ["--credentials-env", "GATE_LOGIN", "--no-onvif", "--for", "2s", "--json"];
    let withheld = json(&probe(dir.path(), &url, &more), 3);
    let outcome = &withheld["facts"]["streams"][0]["outcome"];
    assert!(
        outcome["error"].as_str().unwrap().contains("the password was not sent"),
        "{outcome}"
    );
    assert_eq!(
        (&withheld["snippet"], codes(&withheld)),
        (&Value::Null, vec!["stream_fails"])
    );
    let sent = json(&probe(dir.path(), &url, &[&more[..], &["--auth", "auto"]].concat()), 0);
    assert!(codes(&sent).contains(&"password_in_clear"), "{sent}");
}

#[test]
fn a_wrong_password_and_a_closed_port_have_their_exit_codes() {
    let farm = farm(clip(SMALL), clip(SMALL), AuthMethod::Digest);
    let device = OnvifDevice::start(device(&farm, "hikvision", DeviceLogin::HttpDigest));
    let dir = tempfile::tempdir().unwrap();
    let wrong = probe(
        dir.path(),
        &device.address().to_string(),
        &["--credentials-env", "WRONG_LOGIN"],
    );
    assert_eq!(wrong.status.code(), Some(3), "{}", errors(&wrong));
    let of_stream = probe(
        dir.path(),
        &farm.url("main"),
        &["--credentials-env", "WRONG_LOGIN", "--no-onvif"],
    );
    assert_eq!(of_stream.status.code(), Some(3), "{}", errors(&of_stream));
    let none = probe(dir.path(), "127.0.0.1:1", &[]);
    assert_eq!(none.status.code(), Some(3), "{}", errors(&none));
    let closed = probe(dir.path(), "rtsp://127.0.0.1:1/x", &["--no-onvif"]);
    assert_eq!(closed.status.code(), Some(4), "{}", errors(&closed));
    let usage = probe(dir.path(), "rtsp://u:hunt/er2@host/", &[]);
    assert!(
        usage.status.code() == Some(3) && !errors(&usage).contains("hunt"),
        "{}",
        errors(&usage)
    );
}

#[test]
fn a_device_that_names_another_host_leads_nothing_there() {
    let thief = Thief::start();
    let farm = farm(clip(SMALL), clip(SMALL), AuthMethod::Digest);
    let device = OnvifDevice::start(DeviceScript {
        rtsp: format!("127.0.0.2:{}", farm.port()),
        named_host: Some(thief.address.to_string()),
        ..device(&farm, "dahua", DeviceLogin::Token)
    });
    let dir = tempfile::tempdir().unwrap();
    let more = ["--credentials-env", "GATE_LOGIN", "--for", "2s", "--json"];
    let report = json(&probe(dir.path(), &device.address().to_string(), &more), 0);
    let codes = codes(&report);
    assert_eq!(
        codes.iter().filter(|code| **code == "address_elsewhere").count(),
        3,
        "{report:#}"
    );
    // Two streams of one size are one: the main stream plays, at the host that was named.
    assert_eq!(camera(&report).url, farm.url("main"));
    assert_eq!(thief.visits(), 0);
}

#[cfg(feature = "ort")]
#[test]
fn the_first_picture_comes_with_what_is_found_in_it() {
    let farm = farm(street(), clip(SMALL), AuthMethod::Digest);
    let dir = tempfile::tempdir().unwrap();
    let url = farm.url("main").replace("rtsp://", "rtsp://admin:a-Secret%3Aword%261@");
    let more = ["--no-onvif", "--for", "2s", "--picture", "first.jpg", "--json"];
    let report = json(&probe(dir.path(), &url, &more), 0);
    let picture = &report["picture"];
    assert_eq!(
        image::image_dimensions(dir.path().join("first.jpg")).unwrap(),
        (1280, 720)
    );
    assert!(
        picture["found"].as_array().is_some_and(|found| !found.is_empty()),
        "{picture}"
    );
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(dir.path().join("first.jpg")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it is not masked");
    // Without a place to read it from, the snippet names a file to write.
    assert_eq!(
        camera(&report).credentials.unwrap().file.as_deref(),
        Some(Path::new("camera-1.secret"))
    );
    println!("picture with boxes after {} s", picture["after_s"]);
}

fn discover(more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .arg("discover")
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn cameras_are_discovered_and_listed() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let probe = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let id = probe
                .split("MessageID>")
                .nth(1)
                .and_then(|rest| rest.split('<').next())
                .unwrap();
            let answer = format!(
                "<Envelope><Header><RelatesTo>{id}</RelatesTo></Header><Body><ProbeMatches><ProbeMatch><EndpointReference><Address>urn:uuid:1\
                 </Address></EndpointReference><Types>dn:NetworkVideoTransmitter</Types><Scopes>onvif://www.onvif.org/name/HIKVISION \
                 onvif://www.onvif.org/hardware/DS-2CD%1B[2J</Scopes><XAddrs>http://127.0.0.1:8000/onvif/device_service</XAddrs></ProbeMatch>\
                 </ProbeMatches></Body></Envelope>"
            );
            let _ = socket.send_to(answer.as_bytes(), from);
        }
    });
    let output = discover(&["--host", &address, "--timeout", "1500ms"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", errors(&output));
    assert!(
        text.contains("127.0.0.1:8000") && text.contains("Hikvision") && text.contains("1 device."),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let output = discover(&["--host", &address, "--timeout", "1500ms", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        found["devices"][0]["address"],
        "http://127.0.0.1:8000/onvif/device_service"
    );
    for (more, code) in [
        (&["--interface", "nosuch0"][..], 3),
        (&["--timeout", "10m"], 3),
        (&["--host", "not-an-address"], 2),
        (&["--interface", "192.0.2.1", "--timeout", "100ms"], 4),
    ] {
        let output = discover(more);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {}", errors(&output));
    }
}
