//! Sentences for people that can be put into another language: a template in English, which is also its key in the tables of other languages,
//! with named arguments. The English text is made once, so that a message is used like a text.

use std::{borrow::Borrow, fmt, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A sentence for people; see the module's documentation. Two are equal if their English texts are.
#[derive(Clone, Default)]
pub struct Message {
    english: String,
    /// The template and the values of its placeholders, by name; `None` for a text that was made elsewhere.
    source: Option<(&'static str, Vec<(&'static str, MessageArg)>)>,
}

/// The value of a placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageArg {
    /// A name, number or text that reads the same in every language.
    Text(String),
    /// Another sentence.
    Message(Message),
    /// Sentences, separated by a semicolon.
    List(Vec<Message>),
}

impl fmt::Display for MessageArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Message(message) => f.write_str(message),
            Self::List(list) => {
                for (i, message) in list.iter().enumerate() {
                    f.write_str(if i > 0 { "; " } else { "" })?;
                    f.write_str(message)?;
                }
                Ok(())
            }
        }
    }
}

impl Message {
    /// A sentence of a template with `{name}` for each argument. [`message!`](crate::message!) is shorter.
    pub fn new(template: &'static str, args: Vec<(&'static str, MessageArg)>) -> Self {
        Self {
            english: filled(template, &args, MessageArg::to_string),
            source: Some((template, args)),
        }
    }

    /// The English text.
    pub fn as_str(&self) -> &str {
        &self.english
    }

    /// The text in another language: `table` has its template for the English one, with the same names. Sentences without one stay English.
    pub fn in_language(&self, table: &impl Fn(&'static str) -> Option<&'static str>) -> String {
        let Some((template, args)) = &self.source else {
            return self.english.clone();
        };
        let Some(translated) = table(template) else {
            return self.english.clone();
        };
        filled(translated, args, |arg| match arg {
            MessageArg::Text(text) => text.clone(),
            MessageArg::Message(message) => message.in_language(table),
            MessageArg::List(list) => {
                let texts: Vec<String> = list.iter().map(|message| message.in_language(table)).collect();
                texts.join("；")
            }
        })
    }

    /// The sentence that stands first in it, such as what is concerned; the whole one if it starts with a text of its own.
    pub fn leading(&self) -> Self {
        let first = self.source.as_ref().and_then(|(template, args)| {
            let (name, _) = template.strip_prefix('{')?.split_once('}')?;
            args.iter().find(|(known, _)| *known == name)
        });
        match first {
            Some((_, MessageArg::Message(message))) => message.clone(),
            _ => self.clone(),
        }
    }

    /// True if `table` has a template for it, so that it need not be shown in English.
    pub fn is_in(&self, table: &impl Fn(&'static str) -> Option<&'static str>) -> bool {
        self.source
            .as_ref()
            .is_some_and(|(template, _)| table(template).is_some())
    }
}

/// The template with its placeholders replaced, from left to right, so that no value is taken for a placeholder.
fn filled(template: &str, args: &[(&'static str, MessageArg)], shown: impl Fn(&MessageArg) -> String) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let after = &rest[start + 1..];
        let named = after.find('}').and_then(|end| {
            let arg = args.iter().find(|(name, _)| *name == &after[..end])?;
            Some((end, &arg.1))
        });
        match named {
            Some((end, arg)) => {
                text.push_str(&rest[..start]);
                text.push_str(&shown(arg));
                rest = &after[end + 1..];
            }
            None => {
                text.push_str(&rest[..=start]);
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

/// Makes a [`Message`]: `message!("{tour} is less than look_every ({every})", tour, every = raw.look_every)`.
#[macro_export]
macro_rules! message {
    ($template:literal $(, $name:ident $(= $value:expr)?)* $(,)?) => {
        $crate::message::Message::new(
            $template,
            vec![$((stringify!($name), $crate::message_arg!($name $(= $value)?))),*],
        )
    };
}

/// The value of one placeholder of [`message!`].
#[doc(hidden)]
#[macro_export]
macro_rules! message_arg {
    ($name:ident = $value:expr) => {
        $crate::message::MessageArg::from($value)
    };
    ($name:ident) => {
        $crate::message::MessageArg::from($name)
    };
}

macro_rules! from_text {
    ($($type:ty),*) => {
        $(impl From<$type> for MessageArg {
            fn from(value: $type) -> Self {
                Self::Text(value.to_string())
            }
        })*
    };
}
from_text!(&str, String, &String, usize, u32, u64, i64, f32, f64);

impl From<Message> for MessageArg {
    fn from(message: Message) -> Self {
        Self::Message(message)
    }
}

impl From<Vec<Message>> for MessageArg {
    fn from(list: Vec<Message>) -> Self {
        Self::List(list)
    }
}

/// A text of the program is its own template.
impl From<&'static str> for Message {
    fn from(text: &'static str) -> Self {
        Self::new(text, Vec::new())
    }
}

/// A text that was made elsewhere: it stays English.
impl From<String> for Message {
    fn from(english: String) -> Self {
        Self { english, source: None }
    }
}

impl Deref for Message {
    type Target = str;

    fn deref(&self) -> &str {
        &self.english
    }
}

/// For [`join`](slice::join).
impl Borrow<str> for Message {
    fn borrow(&self) -> &str {
        &self.english
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.english)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.english.fmt(f)
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.english == other.english
    }
}

impl Eq for Message {}

impl PartialEq<&str> for Message {
    fn eq(&self, other: &&str) -> bool {
        self.english == *other
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.english)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chinese(template: &'static str) -> Option<&'static str> {
        match template {
            "{n} of {total} cameras: {why}" => Some("{total} 路中 {n} 路：{why}"),
            "camera {id} is down" => Some("摄像机 {id} 断线"),
            _ => None,
        }
    }

    #[test]
    fn a_message_reads_in_both_languages_with_what_it_contains() {
        let down = |id: &str| message!("camera {id} is down", id);
        let both = message!(
            "{n} of {total} cameras: {why}",
            n = 2_usize,
            total = 5_usize,
            why = vec![down("gate"), down("{n}")]
        );
        assert_eq!(both, "2 of 5 cameras: camera gate is down; camera {n} is down");
        assert_eq!(
            both.in_language(&chinese),
            "5 路中 2 路：摄像机 gate 断线；摄像机 {n} 断线"
        );
        assert!(both.is_in(&chinese));
        let named = message!("{name}: {why}", name = Message::from("cameras"), why = both.clone());
        assert_eq!((named.leading(), both.leading()), (Message::from("cameras"), both));
        let other = Message::from("use { lon = …, lat = … }");
        assert_eq!(other.in_language(&chinese), "use { lon = …, lat = … }");
        assert!(!other.is_in(&chinese) && !Message::from(String::from("camera {id} is down")).is_in(&chinese));
        assert_eq!(serde_json::to_value(&other).unwrap(), "use { lon = …, lat = … }");
    }
}
