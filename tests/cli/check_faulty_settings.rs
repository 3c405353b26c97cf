//! `gridwatch check` and `signs record` connect to nothing whose settings are faulty: what stands in for a faulty `ca_file` is no
//! TLS, and the password would be sent unencrypted.

use std::{
    fs,
    io::{ErrorKind, Read},
    net::TcpListener,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

const PASSWORD: &str = "correct-horse";

fn gridwatch(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .args(arguments)
        .env("GRIDWATCH_TEST_LOGIN", format!("box:{PASSWORD}"))
        .env_remove("GRIDWATCH_CONFIG")
        .output()
        .unwrap()
}

/// A port, and what was sent to it.
struct Port(TcpListener);

impl Port {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn number(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The bytes sent by the first client, which has ended by now; `None` if none connected.
    fn received(&self) -> Option<Vec<u8>> {
        let (mut stream, _) = match self.0.accept() {
            Ok(accepted) => accepted,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return None,
            Err(e) => panic!("{e}"),
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut bytes = Vec::new();
        // A reset ends it too.
        let _ = stream.read_to_end(&mut bytes);
        Some(bytes)
    }
}

/// A configuration without models and grid, whose faults do not matter here.
fn configuration(dir: &Path, broker: &str, camera: &str) -> String {
    let file = dir.join("edge.toml");
    let text = format!(
        "[node]\nid = \"box-1\"\nstate_dir = \"state\"\n\n[broker]\n{broker}\n\n[[cameras]]\nid = \"gate\"\n\
         place = {{ lon = 120.001, lat = 30.001 }}\n{camera}\n"
    );
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// Each way to get one `ca_file` wrong.
const FAULTY_CA: [&str; 7] = [
    "",
    "ca_fil = \"ca.pem\"",
    "ca_file = \"missing.pem\"",
    "ca_file = \"folder\"",
    "ca_file = 7",
    "ca_file = \"\"",
    "ca_file = [\"ca.pem\"]",
];

#[test]
fn a_broker_with_a_faulty_setting_receives_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    let url = |port: &Port| format!("url = \"mqtts://127.0.0.1:{}\"", port.number());
    let login = "credentials = { env = \"GRIDWATCH_TEST_LOGIN\" }";
    let mut sections: Vec<String> = FAULTY_CA.iter().map(|ca| format!("{login}\n{ca}")).collect();
    let ca = format!("ca_file = \"{}/tests/fixtures/tls/ca.pem\"", env!("CARGO_MANIFEST_DIR"));
    sections.push(format!("{ca}\ncredentials = {{ env = \"GRIDWATCH_TEST_UNSET\" }}"));
    sections.push(format!(
        "{ca}\n{login}\nclient = {{ cert_file = \"no.pem\", key_file = \"no.key\" }}"
    ));
    for section in sections {
        let port = Port::open();
        let broker = format!("{}\n{section}", url(&port));
        let file = configuration(dir.path(), &broker, "url = \"file:///missing.mp4\"");
        let output = gridwatch(&["check", "--config", &file]);
        let table = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{table}");
        assert_eq!(port.received(), None, "{section}\n{table}");
        let row = "not contacted: [broker] is faulty, see above";
        assert!(table.contains(row) && table.contains("broker."), "{section}\n{table}");
        assert!(!table.contains(PASSWORD), "{table}");
    }
}

#[test]
fn a_camera_with_a_faulty_setting_receives_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    let login = "credentials = { env = \"GRIDWATCH_TEST_LOGIN\" }";
    let faulty = |ca: &&&str| !ca.is_empty(); // A camera does not need one.
    let mut cameras: Vec<(&str, String)> = FAULTY_CA
        .iter()
        .filter(faulty)
        .map(|ca| ("rtsps", format!("{login}\n{ca}")))
        .collect();
    cameras.push(("rtsp", "credentials = { file = \"missing\" }".into()));
    cameras.push(("rtsp", format!("{login}\ntransport = \"quic\"")));
    for (scheme, rest) in cameras {
        let port = Port::open();
        let camera = format!("url = \"{scheme}://127.0.0.1:{}/stream\"\n{rest}", port.number());
        let file = configuration(dir.path(), "url = \"mqtt://127.0.0.1:1\"", &camera);
        let output = gridwatch(&["check", "--config", &file]);
        let table = String::from_utf8(output.stdout).unwrap();
        assert_eq!(port.received(), None, "{rest}\n{table}");
        let row = "not contacted: its connection is faulty, see above";
        assert!(table.contains("camera gate") && table.contains(row), "{rest}\n{table}");

        #[cfg(all(feature = "gst", feature = "ort"))]
        {
            let output = gridwatch(&[
                "signs",
                "record",
                "gate",
                "--config",
                &file,
                "--out",
                "/nowhere/signs.toml",
            ]);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), port.received()), (Some(3), None), "{error}");
            assert!(error.contains("cameras[0]."), "{error}");
        }
    }
}

#[test]
fn a_fault_that_does_not_concern_the_connection_still_lets_check_try_it() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::open();
    let camera = format!(
        "url = \"rtsp://127.0.0.1:{}/stream\"\nlook_every = \"1h 1s\"",
        port.number()
    );
    let file = configuration(dir.path(), "url = \"mqtt://127.0.0.1:1\"", &camera);
    let output = gridwatch(&["check", "--config", &file, "--timeout", "200ms"]);
    assert!(port.received().is_some(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The broker is reached without TLS, so a password would be sent in the clear.
#[test]
fn a_ca_file_in_another_table_keeps_check_from_the_broker_and_from_the_camera() {
    let dir = tempfile::tempdir().unwrap();
    let ca = "ca_file = \"ca.pem\"";
    let login = "credentials = { env = \"GRIDWATCH_TEST_LOGIN\" }";
    let zone = "[[cameras.zones]]\nid = \"kerb\"\nkind = \"watch\"\npolygon = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]";
    // Each with whether the camera's table has swallowed it.
    let misplaced = [
        (format!("{ca}\n"), String::new(), false),
        (format!("[Broker]\n{ca}\n"), String::new(), false),
        (String::new(), format!("[tls]\n{ca}"), false),
        (String::new(), format!("{zone}\n{ca}"), true),
        (
            String::new(),
            "[cameras.calibration]\nCA-File = \"ca.pem\"".to_owned(),
            true,
        ),
    ];
    for (before, after, is_in_camera) in misplaced {
        let (broker, stream) = (Port::open(), Port::open());
        let file = configuration(
            dir.path(),
            &format!("url = \"mqtt://127.0.0.1:{}\"\n{login}", broker.number()),
            &format!(
                "url = \"rtsp://127.0.0.1:{}/stream\"\n{login}\n{after}",
                stream.number()
            ),
        );
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{before}{text}")).unwrap();
        let output = gridwatch(&["check", "--config", &file, "--timeout", "300ms"]);
        let table = String::from_utf8(output.stdout).unwrap();
        assert_eq!(broker.received(), None, "{before}{after}\n{table}");
        assert!(table.contains("may be meant for [broker]"), "{before}{after}\n{table}");
        assert_eq!(stream.received().is_none(), is_in_camera, "{before}{after}\n{table}");
    }
}
