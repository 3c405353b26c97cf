//! Devices of several brands, each with its own login and services.

use gridwatch_base::secret::Credentials;
use gridwatch_onvif::device::{DeviceOptions, DeviceProblem, DeviceReport, LoginNeeded, OnvifError, examine};
use jiff::SignedDuration;
use url::Url;

use crate::support::{DeviceLogin, DeviceScript, OnvifDevice};

fn options(user: &str, password: &str) -> DeviceOptions {
    DeviceOptions {
        credentials: Some(Credentials {
            user: user.into(),
            password: password.into(),
        }),
        ..DeviceOptions::default()
    }
}

async fn ask(device: &OnvifDevice, options: &DeviceOptions) -> DeviceReport {
    examine(&Url::parse(&device.url()).unwrap(), options).await.unwrap()
}

fn streams(report: &DeviceReport) -> Vec<&str> {
    let streams = report.profiles.iter().filter_map(|p| p.stream.as_ref());
    streams.map(|s| s.url.as_str()).collect()
}

#[tokio::test]
async fn a_device_with_http_digest_and_media_2_is_read() {
    let script = DeviceScript {
        clock: SignedDuration::from_secs(3_600),
        ..DeviceScript::new("hikvision", DeviceLogin::HttpDigest)
    };
    let device = OnvifDevice::start(script.clone());
    let report = ask(&device, &options(script.user, script.password)).await;
    let information = report.information.as_ref().unwrap();
    assert_eq!(
        (information.manufacturer.as_str(), information.model.as_str()),
        ("HIKVISION", "DS-2CD2T47G2-L")
    );
    let clock = report.clock.unwrap();
    assert!(
        (3_597.0..3_601.0).contains(&clock.difference_s) && clock.is_ntp,
        "{clock:?}"
    );
    assert_eq!(
        streams(&report),
        ["rtsp://127.0.0.1:554/Profile_1", "rtsp://127.0.0.1:554/Profile_2"]
    );
    let main = &report.profiles[0];
    assert_eq!(
        (main.encoding.as_str(), main.width, main.keyframe_pictures),
        ("H265", 2560, Some(50))
    );
    assert!(main.snapshot.is_some());
    assert_eq!(report.login.as_deref(), Some("HTTP Digest MD5"));
    assert_eq!((report.login_problem, &report.problems[..]), (None, &[][..]));
    for call in device.calls() {
        assert!(
            !call.text.contains(script.password),
            "the password was sent: {}",
            call.operation
        );
    }
    // One challenge for all calls.
    assert_eq!(device.calls().iter().filter(|call| !call.is_accepted).count(), 1);
}

#[tokio::test]
async fn a_device_that_wants_tokens_gets_them_by_its_own_clock() {
    // An hour off: a token by this machine's clock would be refused.
    let script = DeviceScript {
        clock: SignedDuration::from_secs(-3_600),
        ..DeviceScript::new("dahua", DeviceLogin::Token)
    };
    let device = OnvifDevice::start(script.clone());
    let report = ask(&device, &options(script.user, script.password)).await;
    assert_eq!(report.login.as_deref(), Some("UsernameToken"));
    assert_eq!(report.login_problem, None, "{report:?}");
    // The login that the device writes into its addresses is left out.
    assert_eq!(
        streams(&report),
        [
            "rtsp://127.0.0.1:554/MediaProfile000",
            "rtsp://127.0.0.1:554/MediaProfile001"
        ]
    );
    assert_eq!(report.profiles[0].keyframe_pictures, Some(100));
    assert!(!report.clock.unwrap().is_ntp);
    for call in device.calls() {
        assert!(
            !call.text.contains("a-Secret:word"),
            "the password was sent: {}",
            call.operation
        );
    }
}

#[tokio::test]
async fn a_recorder_behind_a_port_forwarding_is_reached_where_it_was_named() {
    let script = DeviceScript {
        rtsp: "192.0.2.30:8554".into(),
        ..DeviceScript::new("uniview", DeviceLogin::Token)
    };
    let device = OnvifDevice::start(script.clone());
    let report = ask(&device, &options(script.user, script.password)).await;
    assert_eq!(report.profiles.len(), 4);
    assert_eq!(streams(&report)[2], "rtsp://127.0.0.1:8554/media_profile3");
    let named = report.profiles[0].stream.as_ref().unwrap();
    assert_eq!(named.elsewhere.as_deref(), Some("192.0.2.30"));
    let elsewhere = |what| DeviceProblem::Elsewhere {
        what,
        host: "192.0.2.30".into(),
    };
    assert_eq!(report.problems, [elsewhere("media service"), elsewhere("stream")]);
}

#[tokio::test]
async fn a_host_that_the_person_confirmed_is_used_as_named() {
    let script = DeviceScript {
        rtsp: "192.0.2.30:8554".into(),
        ..DeviceScript::new("tp-link", DeviceLogin::None)
    };
    let device = OnvifDevice::start(script);
    let confirmed = DeviceOptions {
        confirmed_hosts: vec!["192.0.2.30".into()],
        ..DeviceOptions::default()
    };
    let report = ask(&device, &confirmed).await;
    assert_eq!(streams(&report)[0], "rtsp://192.0.2.30:8554/profile_1");
    assert_eq!(report.problems, []);
}

#[tokio::test]
async fn an_old_device_without_get_services_is_read_by_its_capabilities() {
    let script = DeviceScript::new("tp-link", DeviceLogin::HttpDigest);
    let device = OnvifDevice::start(script.clone());
    let report = ask(&device, &options(script.user, script.password)).await;
    assert_eq!(report.profiles.len(), 3);
    assert!(report.profiles.iter().all(|profile| profile.snapshot.is_none()));
    assert_eq!(report.problems, [], "no snapshots are no problem");
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    for login in [DeviceLogin::HttpDigest, DeviceLogin::Token] {
        let device = OnvifDevice::start(DeviceScript::new("hikvision", login));
        let report = ask(&device, &options("admin", "wrong")).await;
        assert_eq!(report.login_problem, Some(LoginNeeded::Refused), "{login:?}");
        assert!(report.clock.is_some(), "told without a login");
        let tried = device.calls().iter().filter(|call| call.login != "none").count();
        assert_eq!(tried, 1, "{login:?}: cameras lock users");
    }
}

#[tokio::test]
async fn without_a_login_what_needs_none_is_told() {
    let device = OnvifDevice::start(DeviceScript::new("dahua", DeviceLogin::Token));
    let report = ask(&device, &DeviceOptions::default()).await;
    assert_eq!(report.login_problem, Some(LoginNeeded::Missing));
    assert!(report.clock.is_some() && report.information.is_none());
    assert_eq!(device.calls().len(), 2);
}

#[tokio::test]
async fn the_password_itself_is_sent_only_if_that_is_allowed() {
    let script = DeviceScript::new("hikvision", DeviceLogin::HttpBasic);
    let device = OnvifDevice::start(script.clone());
    let mut options = options(script.user, script.password);
    let report = ask(&device, &options).await;
    assert_eq!(report.login_problem, Some(LoginNeeded::InClear));
    assert!(
        device.calls().iter().all(|call| call.login == "none"),
        "{:?}",
        device.calls()
    );
    options.allows_plain_password = true;
    let report = ask(&device, &options).await;
    assert_eq!(
        (report.login_problem, report.login.as_deref()),
        (None, Some("HTTP Basic"))
    );
}

#[tokio::test]
async fn what_is_no_device_is_told_apart() {
    let ask = async |url: &str| {
        examine(&Url::parse(url).unwrap(), &DeviceOptions::default())
            .await
            .unwrap_err()
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = ask(&format!("http://{free}/onvif/device_service")).await;
    assert!(matches!(error, OnvifError::Unreachable { .. }), "{error}");
}
