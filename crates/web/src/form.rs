//! Values of forms, and work that blocks.

use std::collections::BTreeSet;

use gridwatch_base::secret::{Secret, Zeroizing};
use serde::{Deserialize, Deserializer};
use tokio::task;

use crate::error::Rejection;

/// A password in a form or a JSON body; not printed, and overwritten when dropped.
#[derive(Debug, schemars::JsonSchema)]
pub struct Password(#[schemars(with = "String")] Secret);

impl Password {
    /// What was typed.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// What was typed.
    pub fn into_secret(self) -> Secret {
        self.0
    }

    /// `None` for an empty field.
    pub fn given(&self) -> Option<&Secret> {
        (!self.0.expose().is_empty()).then_some(&self.0)
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Ok(Self(Secret::new(&text)))
    }
}

/// The names in a field, separated by commas of either language or spaces.
pub fn names(text: &str) -> BTreeSet<String> {
    let words = text.split([',', '，', '、', ' ']).map(str::trim);
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `None` for an empty field.
pub fn given(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Runs what blocks for a disk access or a hash.
///
/// # Errors
/// Those of `work`.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Rejection>
where
    T: Send + 'static,
    E: Send + 'static,
    Rejection: From<E>,
{
    let done = task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Rejection::internal(&error))??)
}
