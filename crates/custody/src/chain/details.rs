//! What is known of a person's act, and stays on the box: the event has only the hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{event::random_hex, to_json};
use crate::keys::KeyError;
use gridwatch_base::person::Person;

/// Maximum length of a text in [`Details`] in bytes. A reason is a sentence and a path has some hundred; a person who runs a
/// command must not be able to fill the disk with it.
pub const MAX_FIELD: usize = 1000;

/// Maximum number of texts that say what was done.
const MAX_FACTS: usize = 16;

/// Who did what and why. Text is kept as it was given, control characters included; it must be escaped when shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// 128 random bits, in hexadecimal.
    salt: String,
    /// The person.
    pub who: Person,
    /// What was done, by name: the model, the file, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub what: BTreeMap<String, String>,
    /// The reason that the person gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it failed or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Details {
    /// Nothing but the person.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn new(who: Person) -> Result<Self, KeyError> {
        Ok(Self {
            salt: random_hex()?,
            who,
            what: BTreeMap::new(),
            reason: None,
            error: None,
        })
    }

    /// The JSON to be stored. Texts longer than [`MAX_FIELD`] are cut, and end with their length.
    pub fn json(&self) -> String {
        let cut_optional = |text: &Option<String>| text.as_deref().map(cut);
        to_json(&Self {
            salt: self.salt.clone(),
            who: Person {
                in_namespace: self.who.in_namespace,
                uid: self.who.uid,
                user: cut_optional(&self.who.user),
                login_uid: self.who.login_uid,
                login_user: cut_optional(&self.who.login_user),
                sudo_user: cut_optional(&self.who.sudo_user),
            },
            what: self
                .what
                .iter()
                .take(MAX_FACTS)
                .map(|(name, text)| (cut(name), cut(text)))
                .collect(),
            reason: cut_optional(&self.reason),
            error: cut_optional(&self.error),
        })
    }
}

fn cut(text: &str) -> String {
    match text.len() {
        0..=MAX_FIELD => text.to_owned(),
        length => format!("{}… ({length} bytes)", &text[..text.floor_char_boundary(MAX_FIELD)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_character_and_says_so() {
        let mut details = Details::new(Person::current()).unwrap();
        details.reason = Some("垃圾".repeat(1 << 18));
        details.what = (0..100).map(|n| (format!("{n}"), "x".repeat(1 << 20))).collect();
        let json = details.json();
        assert!(json.len() < MAX_FACTS * (MAX_FIELD + 100) + 10_000, "{}", json.len());
        let read: Details = serde_json::from_str(&json).unwrap();
        let reason = read.reason.unwrap();
        assert!(
            reason.starts_with("垃圾垃圾") && reason.ends_with("… (1572864 bytes)"),
            "{reason}"
        );
        assert_eq!(read.what.len(), MAX_FACTS);
    }

    #[test]
    fn control_characters_stay_data() {
        let mut details = Details::new(Person::current()).unwrap();
        details.reason = Some("\u{1b}]0;owned\u{7}\n{\"kind\":\"key\"}".into());
        let json = details.json();
        assert!(!json.contains('\n') && !json.contains('\u{1b}'), "{json}");
        assert_eq!(serde_json::from_str::<Details>(&json).unwrap(), details);
    }
}
