//! Logins and redirects.

use super::talk::{DIGEST, Talk};
use crate::{Error, LoginProblem, RedirectProblem, Step, Transport};

#[test]
fn logins_are_answered_and_a_rejected_one_says_what_was_tried() {
    let mut talk = Talk::new(Transport::Tcp);
    talk.reply(401, &format!("{DIGEST}\nWWW-Authenticate: Basic realm=\"r\""));
    assert!(
        talk.last().contains("Authorization: Digest username=\"admin\"")
            && talk.last().contains("uri=\"rtsp://cam/x\"")
    );
    talk.reply_sdp(super::talk::SDP);
    assert!(
        talk.last().contains("uri=\"rtsp://cam/x/track1\""),
        "known challenges are answered ahead"
    );
    let mut talk = Talk::new(Transport::Tcp);
    for _ in 0..2 {
        talk.reply(401, &format!("{DIGEST}\nWWW-Authenticate: Basic realm=\"r\""));
    }
    let text = talk.end().to_string();
    assert!(
        text.contains("status 401 on DESCRIBE") && text.contains("tried Digest MD5;"),
        "{text}"
    );
    assert!(!text.contains("geheim") && !text.contains("secretnonce"), "{text}");
}

#[test]
fn a_keep_alive_may_be_refused_but_its_login_is_renewed() {
    let mut talk = Talk::playing(Transport::Tcp);
    talk.pass(0);
    talk.reply(401, DIGEST);
    assert!(talk.last().starts_with("OPTIONS") && talk.last().contains("Authorization: Digest"));
    talk.reply(401, DIGEST);
    assert!(talk.end.is_none());
}

#[test]
fn redirects_are_followed_with_credentials_to_the_same_host() {
    let mut talk = Talk::new(Transport::Tcp);
    talk.reply(302, "Location: rtsp://evil:pw@CAM:8554/y");
    assert_eq!(
        talk.connects,
        ["Main cam:554 false", "Main closed", "Main CAM:8554 false"]
    );
    talk.reply(401, DIGEST);
    assert!(talk.last().starts_with("DESCRIBE rtsp://CAM:8554/y") && talk.last().contains("Authorization"));
    assert!(
        talk.events
            .iter()
            .any(|e| e.contains("Redirected") && e.contains("with_credentials: true"))
    );
    talk.reply(301, "Location: rtsp://other/z");
    talk.reply(401, DIGEST);
    assert!(!talk.last().contains("Authorization"));
    let login = LoginProblem::Withheld;
    assert_eq!(
        talk.end(),
        &Error::Unauthorized {
            status: 401,
            step: Step::Describe,
            login
        }
    );
    let mut talk = Talk::new(Transport::Tcp);
    talk.reply(302, "Location: rtsp://cam/x");
    let to = "rtsp://cam/x".into();
    assert_eq!(talk.end(), &Error::Redirect(RedirectProblem::Loop { to }));
}
