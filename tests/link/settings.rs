//! Debug output of the link's settings.

use crate::filing;
use gridwatch_link::Settings;
use gridwatch_mqtt::{ServerTrust, Tls};

#[test]
fn debug_output_contains_no_password() {
    let settings = Settings {
        login: Some(gridwatch_base::secret::Credentials {
            user: "box".into(),
            password: "hunter2".into(),
        }),
        tls: Some(Tls {
            trust: ServerTrust::CaFile("/nowhere/ca.pem".into()),
            client: None,
        }),
        ..filing::settings(1)
    };
    assert!(!format!("{settings:?}").contains("hunter2"));
}
