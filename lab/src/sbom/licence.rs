//! Licences as crates and models state them, in the form of the bill.

use serde::Serialize;

/// One licence statement of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum LicenceChoice {
    Licence {
        #[serde(rename = "license")]
        licence: Licence,
    },
    Expression {
        expression: String,
    },
}

/// A single licence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Licence {
    /// An identifier of SPDX.
    Id(String),
    /// A statement in words.
    Name(String),
}

impl LicenceChoice {
    /// An SPDX expression. The form `MIT/Apache-2.0` of old crates means `OR`.
    pub fn spdx(expression: &str) -> Self {
        let expression = alternatives(expression).join(" OR ");
        if expression.contains([' ', '(']) {
            Self::Expression { expression }
        } else {
            let licence = Licence::Id(expression);
            Self::Licence { licence }
        }
    }

    /// What a model's manifest states: an SPDX identifier, or words.
    pub fn stated(text: &str) -> Self {
        if text.contains(char::is_whitespace) {
            let licence = Licence::Name(text.to_owned());
            Self::Licence { licence }
        } else {
            Self::spdx(text)
        }
    }
}

/// The expression with its alternatives in alphabetical order, so that `MIT OR Apache-2.0` and `Apache-2.0/MIT` are counted together. One with
/// `AND` is left as it is.
pub(super) fn canonical(expression: &str) -> String {
    let mut alternatives = alternatives(expression);
    if !expression.contains(" AND ") {
        alternatives.sort_unstable();
    }
    alternatives.join(" OR ")
}

fn alternatives(expression: &str) -> Vec<&str> {
    expression
        .split(" OR ")
        .flat_map(|a| a.split('/'))
        .map(str::trim)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_old_crates_is_an_alternative() {
        let expression = "MIT OR Apache-2.0".to_owned();
        assert_eq!(
            LicenceChoice::spdx("MIT/Apache-2.0"),
            LicenceChoice::Expression { expression }
        );
        assert_eq!(canonical("MIT/Apache-2.0"), canonical("Apache-2.0 OR MIT"));
    }

    #[test]
    fn conjunctions_keep_their_order() {
        let expression = "(Apache-2.0 OR MIT) AND BSD-3-Clause";
        assert_eq!(canonical(expression), expression);
    }

    #[test]
    fn a_model_may_state_its_licence_in_words() {
        let name = |text: &str| LicenceChoice::Licence {
            licence: Licence::Name(text.into()),
        };
        assert_eq!(
            LicenceChoice::stated("Apache-2.0 start weights"),
            name("Apache-2.0 start weights")
        );
        let licence = Licence::Id("Apache-2.0".into());
        assert_eq!(LicenceChoice::stated("Apache-2.0"), LicenceChoice::Licence { licence });
    }
}
