//! What the link's settings show of themselves.

use crate::filing;
use gridwatch_link::{Settings, Tls};

#[test]
fn a_password_is_shown_nowhere() {
    let settings = Settings {
        login: Some(gridwatch_base::secret::Credentials {
            user: "box".into(),
            password: "hunter2".into(),
        }),
        tls: Some(Tls {
            ca_file: "/nowhere/ca.pem".into(),
            client: None,
        }),
        ..filing::settings(1)
    };
    assert!(!format!("{settings:?}").contains("hunter2"));
}
