//! Values of requests to the JSON API that know their limits: what parses a value also describes it in the OpenAPI document, so that the two
//! cannot differ.

use std::{borrow::Cow, fmt};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Request},
    http::header::CONTENT_TYPE,
};
use gridwatch_base::message;
use gridwatch_engine::NotFiled;
use gridwatch_onvif::brand::{self, Brand};
use gridwatch_web::Rejection;
use jiff::civil::Date;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Visitor},
};

use crate::{configuration::history::Side, i18n::reasons};

/// Implements [`JsonSchema`] with a schema that stands where it is used.
macro_rules! described {
    ([$($limit:ident)*] $type:ty, $name:expr, $schema:expr) => {
        impl<$(const $limit: u32),*> JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

/// A JSON object as the body of a request. `serde` alone would take an array of the fields' values for one as well.
#[derive(Debug)]
pub(crate) struct JsonObject<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonObject<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, Rejection> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Rejection::BadRequest(message!(
                "send JSON, with Content-Type: application/json"
            )));
        }
        let bytes = Bytes::from_request(request, state).await?;
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(Rejection::BadRequest(message!("send a JSON object")));
        }
        let Json(body) = Json::from_bytes(&bytes)?;
        Ok(Self(body))
    }
}

/// A whole number from `MIN` to `MAX`. To JSON, `30.0` is the number `30`, and some programs write it like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Whole<MIN, MAX> {
    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

struct WholeVisitor<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Visitor<'_> for WholeVisitor<MIN, MAX> {
    type Value = Whole<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        let small = u32::try_from(value).ok().filter(|value| (MIN..=MAX).contains(value));
        small
            .map(Whole)
            .ok_or_else(|| E::custom(format_args!("{value}: use {MIN} to {MAX}")))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::custom(format_args!("{value}: use {MIN} to {MAX}"))),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        let is_valid = value.fract() == 0.0 && (f64::from(MIN)..=f64::from(MAX)).contains(&value);
        match is_valid {
            true => Ok(Whole(value as u32)),
            false => Err(E::custom(format_args!(
                "{value}: use a whole number from {MIN} to {MAX}"
            ))),
        }
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read from a query as well, where a number is text.
        deserializer.deserialize_u64(WholeVisitor)
    }
}

described!(
    [MIN MAX] Whole<MIN, MAX>,
    "Whole",
    json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
);

/// Numbers within limits.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident: $min:literal to $max:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub(crate) struct $name(f64);

        impl $name {
            pub(crate) fn get(self) -> f64 {
                self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = f64::deserialize(deserializer)?;
                match ($min..=$max).contains(&value) {
                    true => Ok(Self(value)),
                    false => Err(D::Error::custom(format_args!("{value}: use {} to {}", $min, $max))),
                }
            }
        }

        described!([] $name, stringify!($name), json_schema!({ "type": "number", "minimum": $min, "maximum": $max }));
    )+};
}

numbers! {
    /// Degrees of longitude.
    Longitude: -180.0 to 180.0;
    /// Degrees of latitude.
    Latitude: -90.0 to 90.0;
    /// Radius of what a camera sees, in metres.
    ViewRadius: 1.0 to 1000.0;
    /// Uncertainty of a place, in metres.
    Uncertainty: 0.5 to 500.0;
}

/// An id of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(String);

impl Id {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// True for an id of the configuration: 1 to 64 letters, digits, `-` or `_`.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match is_id(&text) {
            true => Ok(Self(text)),
            false => Err(D::Error::custom("an id has 1 to 64 letters, digits, - or _")),
        }
    }
}

described!([] Id, "Id", json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" }));

/// Text of at most `MAX` characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text<const MAX: u32>(String);

impl<const MAX: u32> Text<MAX> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl<'de, const MAX: u32> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.chars().count() <= MAX as usize {
            true => Ok(Self(text)),
            false => Err(D::Error::custom(format_args!("longer than {MAX} characters"))),
        }
    }
}

described!([MAX] Text<MAX>, "Text", json_schema!({ "type": "string", "maxLength": MAX }));

/// A day, such as `2026-06-01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Day(Date);

impl Day {
    pub(crate) fn get(self) -> Date {
        self.0
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // jiff takes more forms, such as a day with a time.
        let day = text.parse::<Date>().ok().filter(|day| day.to_string() == text);
        day.map(Self)
            .ok_or_else(|| D::Error::custom("not a day such as 2026-06-01"))
    }
}

described!([] Day, "Day", json_schema!({ "type": "string", "format": "date" }));

/// Why a candidate was not filed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReasonName(NotFiled);

impl ReasonName {
    pub(crate) fn get(self) -> NotFiled {
        self.0
    }
}

impl<'de> Deserialize<'de> for ReasonName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let reason = reasons::not_filed_of(&text).map(Self);
        reason.ok_or_else(|| D::Error::custom("not a reason why something was not filed"))
    }
}

described!([] ReasonName, "ReasonName", {
    let names: Vec<&str> = reasons::NOT_FILED.iter().map(|reason| reason.as_str()).collect();
    json_schema!({ "type": "string", "enum": names })
});

/// Id of a camera brand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BrandName(&'static Brand);

impl BrandName {
    pub(crate) fn as_str(self) -> &'static str {
        self.0.id.as_str()
    }
}

impl<'de> Deserialize<'de> for BrandName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let brand = brand::by_id(&text).map(Self);
        brand.ok_or_else(|| D::Error::custom("not the id of a brand"))
    }
}

described!([] BrandName, "BrandName", {
    let ids: Vec<&str> = brand::brands().iter().map(|brand| brand.id.as_str()).collect();
    json_schema!({ "type": "string", "enum": ids })
});

impl<'de> Deserialize<'de> for Side {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_plain = text == "current" || text.bytes().all(|byte| byte.is_ascii_digit());
        let side = Self::parse(&text).ok().filter(|_| is_plain && text.len() <= 19);
        side.ok_or_else(|| D::Error::custom("a version is a number, or current"))
    }
}

described!([] Side, "Side", json_schema!({ "type": "string", "pattern": "^(current|[0-9]{1,19})$" }));

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Whether the JSON value is taken, and whether its schema says that it would be, by the keywords that are used here.
    fn taken<T: for<'de> Deserialize<'de> + JsonSchema>(value: &Value) -> (bool, bool) {
        let schema = SchemaGenerator::default().root_schema_for::<T>();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(schema.as_value())
            .unwrap();
        (T::deserialize(value).is_ok(), validator.is_valid(value))
    }

    #[test]
    fn values_are_taken_exactly_if_their_schemas_say_so() {
        let numbers = [
            json!(0),
            json!(1),
            json!(500),
            json!(501),
            json!(-1),
            json!(7.0),
            json!(7.5),
            json!(180.0),
            json!(-180.5),
            json!(1e300),
            json!("7"),
            json!(null),
            json!([]),
        ];
        let texts = [
            "",
            "a",
            "gate-1_B",
            "ä",
            "a b",
            "a\n",
            "current",
            "17",
            "12345678901234567890",
            " 17",
            "-1",
            "2026-06-01",
            "2026-6-1",
            "2026-02-30",
            "20260601",
            "2026-06-01T00:00",
            "left_before_dwell",
            "because",
        ];
        let long = "字".repeat(64);
        let texts = texts.iter().map(|text| json!(text));
        let texts = texts.chain([json!(long), json!(format!("{long}x")), json!("x".repeat(65))]);
        for value in numbers.into_iter().chain(texts) {
            for (kind, (is_taken, is_described)) in [
                ("whole", taken::<Whole<1, 500>>(&value)),
                ("longitude", taken::<Longitude>(&value)),
                ("id", taken::<Id>(&value)),
                ("text", taken::<Text<64>>(&value)),
                ("day", taken::<Day>(&value)),
                ("reason", taken::<ReasonName>(&value)),
                ("side", taken::<Side>(&value)),
            ] {
                assert_eq!(is_taken, is_described, "{kind} {value}");
            }
        }
        let read = |query: &str| {
            let uri = format!("/?{query}").parse().unwrap();
            axum::extract::Query::<std::collections::BTreeMap<String, Whole<1, 500>>>::try_from_uri(&uri)
        };
        assert_eq!(read("limit=500").unwrap().0["limit"].get(), 500);
        for wrong in ["limit=501", "limit=0", "limit=-1", "limit=", "limit=x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
