//! Devices that mean harm: bodies without end, entity bombs, redirects, and addresses that lead the login astray.

use std::time::Duration;

use gridwatch_base::secret::Credentials;
use gridwatch_onvif::device::{DeviceOptions, LoginNeeded, MAX_STREAMS, OnvifError, examine};
use url::Url;

use crate::support::{DeviceLogin, DeviceScript, Manner, OnvifDevice, Thief, fault};

fn options() -> DeviceOptions {
    DeviceOptions {
        credentials: Some(Credentials {
            user: "admin".into(),
            password: "a-Secret:word&1".into(),
        }),
        call_limit: Duration::from_secs(2),
        ..DeviceOptions::default()
    }
}

async fn error_of(manner: Manner) -> OnvifError {
    let device = OnvifDevice::start(DeviceScript {
        manner,
        ..DeviceScript::new("hikvision", DeviceLogin::HttpDigest)
    });
    let error = examine(&Url::parse(&device.url()).unwrap(), &options())
        .await
        .unwrap_err();
    assert_eq!(
        device.calls().len(),
        1,
        "{error}: nothing more is asked, and no login is sent"
    );
    error
}

#[tokio::test]
async fn answers_without_end_are_cut_off() {
    let endless = error_of(Manner::EndlessBody).await.to_string();
    assert!(endless.contains("exceeds"), "{endless}");
    let headers = error_of(Manner::EndlessHeaders).await;
    assert!(matches!(headers, OnvifError::NotOnvif { .. }), "{headers}");
    for manner in [Manner::Trickle, Manner::Silence] {
        let slow = error_of(manner).await.to_string();
        assert!(slow.contains("no answer within 2s"), "{slow}");
    }
    let cut = error_of(Manner::CutOff).await;
    assert!(matches!(cut, OnvifError::NotOnvif { .. }), "{cut}");
}

#[tokio::test]
async fn bodies_that_are_no_answer_are_refused() {
    let bomb = "<!DOCTYPE lolz [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]><Envelope><Body>&b;</Body></Envelope>";
    for (body, fault) in [
        (bomb.to_owned(), "document type"),
        ("<html><title>Login</title>".to_owned(), "not well-formed"),
        ("<html></html>".to_owned(), "no content"),
        ("<Envelope>".repeat(1_000), "nested elements"),
        (format!("<Envelope>{}</Envelope>", "<a/>".repeat(100_000)), "elements"),
        (String::new(), "not well-formed"),
    ] {
        let error = error_of(Manner::Body(body)).await.to_string();
        assert!(error.contains(fault), "{error}: expected {fault}");
    }
}

#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let thief = Thief::start();
    let error = error_of(Manner::Redirect(format!("http://admin:x@{}/evil", thief.address))).await;
    assert_eq!(
        error,
        OnvifError::Redirected {
            host: match &error {
                OnvifError::Redirected { host, .. } => host.clone(),
                other => panic!("{other}"),
            },
            to: format!("{}/evil", thief.address),
        }
    );
    assert_eq!(thief.visits(), 0);
}

#[tokio::test]
async fn a_login_never_goes_to_a_host_that_the_device_names() {
    let thief = Thief::start();
    for (brand, login) in [
        ("hikvision", DeviceLogin::HttpDigest),
        ("dahua", DeviceLogin::Token),
        ("tp-link", DeviceLogin::Token),
    ] {
        let device = OnvifDevice::start(DeviceScript {
            named_host: Some(thief.address.to_string()),
            rtsp: thief.address.to_string(),
            ..DeviceScript::new(brand, login)
        });
        let report = examine(&Url::parse(&device.url()).unwrap(), &options()).await.unwrap();
        assert!(!report.problems.is_empty(), "{brand}: {report:?}");
        for profile in &report.profiles {
            let stream = profile.stream.as_ref().unwrap();
            assert_eq!(stream.url.host_str(), Some("127.0.0.1"), "{brand}");
            assert_eq!(stream.elsewhere.as_deref(), Some("127.0.0.2"), "{brand}");
        }
        assert!(!report.profiles.is_empty(), "{brand}: asked at the named host instead");
    }
    assert_eq!(thief.visits(), 0);
}

#[tokio::test]
async fn a_device_with_ten_thousand_profiles_is_asked_for_a_few() {
    let profile = "<Profiles token=\"&quot;&gt;&lt;x>\"><VideoEncoderConfiguration/></Profiles>";
    let body = format!(
        "<Envelope><Body><GetProfilesResponse>{}</GetProfilesResponse></Body></Envelope>",
        profile.repeat(9_000)
    );
    let device = OnvifDevice::start(DeviceScript {
        manner: Manner::Profiles(body),
        ..DeviceScript::new("hikvision", DeviceLogin::None)
    });
    let patient = DeviceOptions {
        limit: Duration::from_mins(5),
        call_limit: Duration::from_mins(1),
        ..options()
    };
    let report = examine(&Url::parse(&device.url()).unwrap(), &patient).await.unwrap();
    assert_eq!(report.profiles.len(), 64);
    let asked = device
        .calls()
        .iter()
        .filter(|call| call.operation == "GetStreamUri")
        .count();
    assert_eq!(asked, MAX_STREAMS);
    for call in device.calls() {
        assert!(!call.text.contains("<x>"), "a token became markup: {}", call.text);
    }
}

#[tokio::test]
async fn a_device_that_is_never_content_is_given_up() {
    let device = OnvifDevice::start(DeviceScript {
        manner: Manner::Body(fault("s:Sender", "ter:NotAuthorized", "never\u{7}")),
        ..DeviceScript::new("hikvision", DeviceLogin::None)
    });
    let report = examine(&Url::parse(&device.url()).unwrap(), &options()).await.unwrap();
    assert_eq!(report.login_problem, Some(LoginNeeded::Refused));
    assert!(device.calls().len() <= 3, "{}", device.calls().len());
}
