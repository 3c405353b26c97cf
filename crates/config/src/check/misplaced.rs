//! Settings that protect a connection, in a table that does not have them. TOML gives a line to the last table header above it, so a
//! `ca_file` below `[[cameras.zones]]` is not the camera's, and one above `[broker]` not the broker's. Each is reported as an unknown
//! field; here, the connections are found that it may have been meant for.

use serde_json::Value;

use super::{Checker, FieldPath, draft::is_or_is_in, section};
use gridwatch_base::document::{Fault, Step};
use gridwatch_engine::CameraId;

/// The settings, in lower case without `_` and `-`.
const PROTECTING: [&str; 4] = ["cafile", "credentials", "tls", "pinsha256"];

impl Checker<'_> {
    /// Nothing may connect to the broker while such a setting is misplaced, nor to the camera in whose table it is.
    pub(super) fn misplaced_settings(&mut self) {
        let mut found = Vec::new();
        collect(&FieldPath::default(), &self.document.value, &mut found);
        for at in found {
            let path = at.to_string();
            // The schema has flagged the field itself, or a table above it. In [broker] it is a fault of that section.
            let is_own = |f: &Fault| self.document.files().any(|file| file == f.file);
            let flags = |f: &&Fault| is_own(f) && !f.path.is_empty() && is_or_is_in(&path, &f.path);
            let faults: Vec<Fault> = self
                .draft
                .faults
                .iter()
                .filter(|f| f.message == "unknown field")
                .filter(flags)
                .cloned()
                .collect();
            if faults.is_empty() || at.starts_with(&section("broker")) {
                continue;
            }
            if let [Step::Key(list), Step::Index(camera), ..] = at.steps()
                && list == "cameras"
                && let Some(id) = section("cameras").index(*camera).key("id").get(&self.document.value)
                && let Some(id) = id.as_str()
            {
                let known = self.draft.connection_faults.entry(CameraId::from(id)).or_default();
                known.extend(faults.into_iter().filter(|f| !known.contains(f)).collect::<Vec<_>>());
            }
            self.draft.misplaced.push(path);
        }
    }
}

/// The paths of all protecting settings in `value`.
fn collect(at: &FieldPath, value: &Value, found: &mut Vec<FieldPath>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let at = at.key(key);
                let plain = key.to_lowercase().replace(['_', '-'], "");
                if PROTECTING.contains(&plain.as_str()) {
                    found.push(at);
                } else {
                    collect(&at, value, found);
                }
            }
        }
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                collect(&at.index(i), value, found);
            }
        }
        _ => {}
    }
}
