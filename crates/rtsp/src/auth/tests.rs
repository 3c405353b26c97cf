use super::*;

fn credentials(user: &str, password: &str) -> Credentials {
    Credentials {
        user: user.into(),
        password: password.into(),
    }
}

fn authenticator() -> Authenticator {
    Authenticator::new(Some(credentials("u", "p")), false, LoginPolicy::default(), true)
}

/// A 401 with `header`, answered; the `Authorization` that follows.
fn answer(a: &mut Authenticator, attempt: &mut Attempt, header: &str) -> Result<String, LoginProblem> {
    a.challenge([header].into_iter(), attempt, &mut Random::new(1))?;
    Ok(a.authorize("DESCRIBE", "rtsp://c/x", b"", attempt).unwrap())
}

fn rejected(tried: &str) -> Result<String, LoginProblem> {
    Err(LoginProblem::Rejected { tried: tried.into() })
}

fn digest(header: &str) -> Digest {
    let challenge = &challenge::parse(header)[0];
    let Some(Scheme::Digest(algorithm)) = challenge.scheme() else {
        panic!("not a Digest challenge: {header}");
    };
    Digest::new(algorithm, challenge, &mut Random::new(1)).unwrap()
}

#[test]
fn the_examples_of_the_rfcs_are_matched() {
    // RFC 2617, 3.5.
    let header = r#"Digest realm="testrealm@host.com", qop="auth,auth-int",
        nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
    let mut d = digest(header);
    d.set_client_nonce("0a4f113b");
    let value = d.authorization(&credentials("Mufasa", "Circle Of Life"), "GET", "/dir/index.html", b"");
    assert!(
        value.contains(r#"response="6629fae49393a05397450978507c4ef1""#),
        "{value}"
    );
    assert!(
        value.contains(r#"opaque="5ccc069c403ebaf9f0171e9517f40e41", qop=auth, nc=00000001"#),
        "{value}"
    );
    assert!(!value.contains("algorithm"), "{value}");
    // RFC 7616, 3.9.1.
    let header = r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256,
        nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;
    let mut d = digest(header);
    d.set_client_nonce("f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ");
    let value = d.authorization(&credentials("Mufasa", "Circle of Life"), "GET", "/dir/index.html", b"");
    let response = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
    assert!(
        value.contains(response) && value.contains("algorithm=SHA-256,"),
        "{value}"
    );
}

#[test]
fn without_qop_there_is_no_client_nonce() {
    // RFC 2069, with RFC 2617's hashes: MD5("u:r:p"), MD5("DESCRIBE:rtsp://c/x").
    let value = answer(
        &mut authenticator(),
        &mut Attempt::default(),
        r#"Digest realm="r", nonce="n""#,
    )
    .unwrap();
    let hash = |text: &str| digest_md5(text);
    let expected = hash(&format!("{}:n:{}", hash("u:r:p"), hash("DESCRIBE:rtsp://c/x")));
    assert!(value.contains(&format!(r#"response="{expected}""#)), "{value}");
    assert!(!value.contains("cnonce"), "{value}");
}

fn digest_md5(text: &str) -> String {
    use sha2::Digest as _;
    md5::Md5::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn auth_int_hashes_the_empty_body() {
    let mut d = digest(r#"Digest realm="r", nonce="n", qop="auth-int", algorithm=md5-sess"#);
    d.set_client_nonce("c");
    let value = d.authorization(&credentials("u", "p"), "PLAY", "rtsp://c/", b"");
    let hash = |text: &str| digest_md5(text);
    let a1 = hash(&format!("{}:n:c", hash("u:r:p")));
    let a2 = hash(&format!("PLAY:rtsp://c/:{}", hash("")));
    let expected = hash(&format!("{a1}:n:00000001:c:auth-int:{a2}"));
    assert!(
        value.contains(&expected) && value.contains("algorithm=md5-sess"),
        "{value}"
    );
}

#[test]
fn the_strongest_scheme_is_tried_first_then_the_next() {
    let (mut a, mut attempt) = (authenticator(), Attempt::default());
    let offers =
        r#"Basic realm="r", Digest nonce="1", Digest nonce="1", algorithm=SHA-256, Digest nonce=2, algorithm=X"#;
    assert!(
        answer(&mut a, &mut attempt, offers)
            .unwrap()
            .contains("algorithm=SHA-256")
    );
    assert!(answer(&mut a, &mut attempt, offers).unwrap().starts_with("Digest"));
    assert_eq!(answer(&mut a, &mut attempt, offers), Ok("Basic dTpw".into()));
    assert_eq!(
        answer(&mut a, &mut attempt, offers),
        rejected("Digest SHA-256, Digest MD5, Basic")
    );
}

#[test]
fn a_stale_nonce_is_answered_anew_but_not_forever() {
    let (mut a, mut attempt) = (authenticator(), Attempt::default());
    let stale = |n: u32| format!(r#"Digest realm="r", nonce="{n}", stale="TRUE""#);
    for n in 0..4 {
        assert!(answer(&mut a, &mut attempt, &stale(n)).is_ok(), "{n}");
    }
    assert_eq!(answer(&mut a, &mut attempt, &stale(4)), rejected("Digest MD5"));
}

#[test]
fn a_nonce_that_is_good_once_is_renewed_for_each_request() {
    let mut a = authenticator();
    for n in 0..9 {
        let mut attempt = Attempt::default();
        let _ = a.authorize("DESCRIBE", "rtsp://c/x", b"", &mut attempt);
        let challenge = format!(r#"Digest realm="r", nonce="{n}", stale=FALSE"#);
        assert!(answer(&mut a, &mut attempt, &challenge).is_ok());
    }
}

#[test]
fn a_wrong_password_is_tried_once_per_scheme() {
    let (mut a, mut attempt) = (authenticator(), Attempt::default());
    assert!(answer(&mut a, &mut attempt, r#"Digest realm="r", nonce="1""#).is_ok());
    assert_eq!(
        answer(&mut a, &mut attempt, r#"Digest realm="r", nonce="2""#),
        rejected("Digest MD5")
    );
}

#[test]
fn an_older_camera_gets_a_basic_login_in_its_encoding() {
    let mut a = Authenticator::new(Some(credentials("u", "\u{e9}")), false, LoginPolicy::default(), true);
    let mut attempt = Attempt::default();
    assert_eq!(
        answer(&mut a, &mut attempt, "Basic realm=x"),
        Ok("Basic dTrDqQ==".into())
    );
    assert_eq!(answer(&mut a, &mut attempt, "Basic realm=x"), Ok("Basic dTrp".into()));
    assert_eq!(
        answer(&mut a, &mut attempt, "Basic realm=x"),
        rejected("Basic, Basic in ISO 8859-1")
    );
}

#[test]
fn without_credentials_the_problem_says_why() {
    let mut attempt = Attempt::default();
    let mut none = Authenticator::new(None, false, LoginPolicy::default(), true);
    assert_eq!(
        answer(&mut none, &mut attempt, "Basic"),
        Err(LoginProblem::NoCredentials)
    );
    let mut withheld = Authenticator::new(Some(credentials("u", "p")), true, LoginPolicy::default(), true);
    assert_eq!(
        answer(&mut withheld, &mut attempt, "Basic"),
        Err(LoginProblem::Withheld)
    );
    let offered = LoginProblem::UnsupportedSchemes {
        offered: "Digest SHA-512-256, NTLM".into(),
    };
    let offers = "Digest nonce=1, algorithm=SHA-512-256, NTLM";
    assert_eq!(answer(&mut authenticator(), &mut attempt, offers), Err(offered));
}

#[test]
fn quotes_in_a_user_name_are_escaped_and_secrets_are_not_printed() {
    let mut a = Authenticator::new(
        Some(credentials("a\"b\\\r\n", "geheim")),
        false,
        LoginPolicy::default(),
        true,
    );
    let value = answer(&mut a, &mut Attempt::default(), r#"Digest realm="r", nonce="qwertz""#).unwrap();
    assert!(value.starts_with(r#"Digest username="a\"b\\", realm"#), "{value}");
    let debug = format!("{a:?}");
    assert!(!debug.contains("geheim") && !debug.contains("qwertz"), "{debug}");
}

/// A server that asks for Basic gets the password in the clear: not from a camera that can do better, whatever comes later.
#[test]
fn a_camera_that_spoke_digest_gets_no_password_in_the_clear() {
    let policy = |schemes| LoginPolicy::new(schemes);
    let connect =
        |policy: &LoginPolicy, tls: bool| Authenticator::new(Some(credentials("u", "p")), false, policy.clone(), tls);
    let ask = |a: &mut Authenticator, header: &str| answer(a, &mut Attempt::default(), header);
    let (basic, digest) = ("Basic realm=x", r#"Digest realm="r", nonce="1""#);
    let auto = policy(LoginSchemes::Auto);
    let mut older = connect(&auto, false);
    assert_eq!(ask(&mut older, basic), Ok("Basic dTpw".into()));
    assert!(older.exposes_password());
    assert!(ask(&mut connect(&auto, false), digest).is_ok());
    assert_eq!(ask(&mut connect(&auto, false), basic), Err(LoginProblem::Downgraded));
    let both = format!("{digest}, {basic}");
    let mut attempt = Attempt::default();
    let mut a = connect(&auto, false);
    assert!(answer(&mut a, &mut attempt, &both).unwrap().starts_with("Digest"));
    assert_eq!(answer(&mut a, &mut attempt, &both), rejected("Digest MD5"));
    let mut encrypted = connect(&auto, true);
    assert!(ask(&mut encrypted, basic).is_ok() && !encrypted.exposes_password());

    let not_allowed = |offered: &str| {
        Err(LoginProblem::NotAllowed {
            offered: offered.into(),
        })
    };
    assert_eq!(
        ask(&mut connect(&policy(LoginSchemes::Digest), true), basic),
        not_allowed("Basic")
    );
    let only_basic = policy(LoginSchemes::Basic);
    assert_eq!(ask(&mut connect(&only_basic, false), digest), not_allowed("Digest"));
    let mut a = connect(&only_basic, false);
    assert_eq!(ask(&mut a, &both), Ok("Basic dTpw".into()));
    assert!(!a.exposes_password(), "as configured");
}
