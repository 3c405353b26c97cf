//! A signing key in a token that goes away: cases wait, and `/readyz` says why.

use crate::broker::Broker;
use crate::daemon::{Daemon, farm, gridwatch, json_lines};
use crate::softhsm::SoftToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_case_waits_for_the_token_and_is_filed_once_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let (token, farm, broker) = (SoftToken::new(), farm(&["street-a"]), Broker::start());
    let conf = token.conf();
    // The daemon creates no key in a token.
    let config = dir.path().join("new.toml");
    let state = dir.path().join("state");
    let text = format!(
        "[node]\nid = \"box\"\nstate_dir = {state:?}\n[evidence]\nsigning_key = {:?}\n",
        token.uri("box")
    );
    std::fs::write(&config, text).unwrap();
    let created = gridwatch(&["keys", "new", "--config"])
        .arg(&config)
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    assert!(created.status.success(), "{created:?}");

    let variable = Some(("SOFTHSM2_CONF", conf.as_path()));
    let mut daemon = Daemon::start_where(dir.path(), &farm, &["street-a"], broker.port, variable, |file| {
        file.evidence.signing_key = Some(token.uri("box"));
    });
    daemon.until("the start", |d| d.get("/readyz"));
    token.remove();
    daemon.until("a case that waits", |d| {
        let (status, body) = d.get("/readyz")?;
        (status == 503 && body.contains("is waiting to be committed: the signing key's token")).then_some(())
    });
    assert!(!daemon.log().contains("Case filed"), "{}", daemon.log());
    token.insert();
    daemon.until("the case", |d| d.log().contains("Case filed").then_some(()));
    daemon.signal(rustix::process::Signal::TERM);
    let status = daemon.wait_for_exit();
    assert!(status.success(), "{status}: {}", daemon.log());
    let cases = json_lines(&["cases", "list", "--json", "--state", state.to_str().unwrap()]);
    assert!(!cases.is_empty());
}
