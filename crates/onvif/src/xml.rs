//! XML of devices as a small tree, bounded: no document types, no entities but the five of XML, a limit on depth and on elements.
//!
//! Names are local names: devices bind the namespaces of ONVIF to any prefix, and some to the wrong one.

use quick_xml::{
    Reader, XmlVersion,
    escape::unescape,
    events::{BytesStart, Event},
};

/// Deepest nesting; profiles of ONVIF reach 12.
pub const MAX_DEPTH: usize = 32;
/// Elements of one document; 64 profiles have about 6,000.
pub const MAX_ELEMENTS: usize = 20_000;
/// Bytes of text kept of one element; more is cut off.
pub const MAX_TEXT: usize = 8 << 10;
/// Attributes kept of one element.
pub const MAX_ATTRIBUTES: usize = 16;

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// A document type, which could define entities.
    #[error("it has a document type (<!DOCTYPE …>)")]
    DocumentType,
    /// Too deep or too many.
    #[error("more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Not XML, or cut off.
    #[error("not well-formed XML")]
    Malformed,
}

/// An element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Local name, without a prefix.
    pub name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads a document. Bytes that are not UTF-8 are replaced, as in texts of devices that send another encoding.
    ///
    /// # Errors
    /// It is not XML, has a document type, or is beyond a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        let text = String::from_utf8_lossy(bytes);
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}').trim_start());
        // The depth is what counts; a wrong name in a closing tag changes nothing that is read here.
        reader.config_mut().check_end_names = false;
        reader.config_mut().allow_dangling_amp = true;
        let mut open: Vec<Self> = Vec::new();
        let mut elements = 0;
        loop {
            match reader.read_event().map_err(|_| XmlError::Malformed)? {
                Event::DocType(_) => return Err(XmlError::DocumentType),
                Event::Start(start) => {
                    if open.len() == MAX_DEPTH {
                        return Err(limit("nested elements", MAX_DEPTH));
                    }
                    open.push(Self::start(&start, &mut elements)?);
                }
                Event::Empty(start) => {
                    let element = Self::start(&start, &mut elements)?;
                    match open.last_mut() {
                        Some(parent) => parent.children.push(element),
                        None => return Ok(element),
                    }
                }
                Event::End(_) => {
                    let element = open.pop().ok_or(XmlError::Malformed)?;
                    match open.last_mut() {
                        Some(parent) => parent.children.push(element),
                        // What follows the root is of no interest.
                        None => return Ok(element),
                    }
                }
                Event::Text(text) => add(&mut open, &text.xml_content(XmlVersion::Implicit1_0)),
                Event::CData(text) => add(&mut open, &text.xml_content(XmlVersion::Implicit1_0)),
                Event::GeneralRef(reference) => {
                    let name = reference.into_inner();
                    // An entity that XML does not define stays as it is written.
                    let entity = format!("&{name};");
                    let text = unescape(&entity).map_or_else(|_| entity.clone(), |text| text.into_owned());
                    add(&mut open, &text);
                }
                Event::Eof => return Err(XmlError::Malformed),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
    }

    fn start(start: &BytesStart<'_>, elements: &mut usize) -> Result<Self, XmlError> {
        *elements += 1;
        if *elements > MAX_ELEMENTS {
            return Err(limit("elements", MAX_ELEMENTS));
        }
        let mut attributes = start.attributes();
        let attributes = attributes.with_checks(false).take(MAX_ATTRIBUTES);
        Ok(Self {
            name: cut(local(start.local_name().into_inner()), MAX_TEXT).to_owned(),
            attributes: attributes
                .filter_map(Result::ok)
                .map(|a| {
                    let value = unescape(cut(&a.value, MAX_TEXT)).map(|v| v.into_owned());
                    (cut(a.key.into_inner(), MAX_TEXT).to_owned(), value.unwrap_or_default())
                })
                .collect(),
            text: String::new(),
            children: Vec::new(),
        })
    }

    /// The text directly in it, without white space around it.
    pub fn text(&self) -> &str {
        self.text.trim()
    }

    /// The attribute of this local name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(n, _)| local(n) == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Its elements, in order.
    pub fn children(&self) -> &[Self] {
        &self.children
    }

    /// Its elements of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element at this path of names below it.
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |element, name| {
            element.children.iter().find(|child| child.name == *name)
        })
    }

    /// The text of the first element at this path; `None` if it is empty.
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path).map(Self::text).filter(|text| !text.is_empty())
    }

    /// The first element of this name anywhere below it.
    pub fn find(&self, name: &str) -> Option<&Self> {
        self.children.iter().find_map(|child| {
            if child.name == name {
                Some(child)
            } else {
                child.find(name)
            }
        })
    }
}

fn limit(what: &'static str, limit: usize) -> XmlError {
    XmlError::Limit { what, limit }
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn add(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        let room = MAX_TEXT.saturating_sub(element.text.len());
        element.text.push_str(cut(text, room));
    }
}

/// At most `limit` bytes of `text`, whole characters.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// `text` as the content of an element or a quoted attribute.
pub(crate) fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_no_prefixes_and_entities_of_xml_are_read() {
        let xml = br#"<?xml version="1.0"?><!-- c --><a:Root xmlns:a="urn:x" a:token="1&amp;2">
            <b:Name> a &lt; b &#20844;<![CDATA[ & c]]></b:Name><b:Name/></a:Root> trailing"#;
        let root = Element::parse(xml).unwrap();
        assert_eq!((root.name.as_str(), root.attribute("token")), ("Root", Some("1&2")));
        assert_eq!(root.text_at(&["Name"]), Some("a < b 公 & c"));
        assert_eq!(root.all("Name").count(), 2);
        assert_eq!(root.find("Nothing"), None);
    }

    #[test]
    fn entity_bombs_are_refused_before_they_are_expanded() {
        let bomb =
            br#"<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>"#;
        assert_eq!(Element::parse(bomb), Err(XmlError::DocumentType));
        let unknown = Element::parse(b"<x>&b;&nbsp;</x>").unwrap();
        assert_eq!(unknown.text(), "&b;&nbsp;", "not expanded");
        assert_eq!(
            Element::parse(br#"<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>"#),
            Err(XmlError::DocumentType)
        );
    }

    #[test]
    fn depth_count_and_text_are_bounded() {
        let deep = "<a>".repeat(MAX_DEPTH + 1);
        assert!(matches!(Element::parse(deep.as_bytes()), Err(XmlError::Limit { .. })));
        let many = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
        assert!(matches!(Element::parse(many.as_bytes()), Err(XmlError::Limit { .. })));
        let long = format!("<a>{}</a>", "公".repeat(MAX_TEXT));
        assert!(Element::parse(long.as_bytes()).unwrap().text().len() <= MAX_TEXT);
        let attributes = format!("<a {}/>", "x='1' ".repeat(100_000));
        assert_eq!(
            Element::parse(attributes.as_bytes()).unwrap().attributes.len(),
            MAX_ATTRIBUTES
        );
        assert_eq!(Element::parse(b"<a><b></b>"), Err(XmlError::Malformed), "cut off");
        assert_eq!(Element::parse(b""), Err(XmlError::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Element::parse(&bytes);
        }

        #[test]
        fn anything_like_xml_is_read_or_refused(text in r#"(<|>|/|&|;|a|!|\[|\]|"|=| |é|CDATA|--|\?){0,80}"#) {
            let _ = Element::parse(text.as_bytes());
        }

        #[test]
        fn what_is_escaped_is_read_back(text in "\\PC{0,60}") {
            let xml = format!("<a x=\"{0}\">{0}</a>", escaped(&text));
            let root = Element::parse(xml.as_bytes()).unwrap();
            prop_assert_eq!(root.text(), text.trim());
            prop_assert_eq!(root.attribute("x"), Some(text.as_str()));
        }
    }
}
