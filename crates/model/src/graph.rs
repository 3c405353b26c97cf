//! Reads the header of an ONNX file without ONNX Runtime: versions, metadata, and whether the weights are inside the file.
//!
//! The file is a protocol buffer (`onnx.proto3` of the ONNX project, message `ModelProto`). Only the needed fields are parsed and
//! all others are skipped, so the size of the file does not matter. Whether the network runs is decided by ONNX Runtime.

use std::collections::BTreeMap;

/// Header of an ONNX file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// Version of the ONNX IR.
    pub ir_version: u64,
    /// Name and version of the exporter.
    pub producer: String,
    /// Operator set version by domain; the default domain is `""`.
    pub opsets: BTreeMap<String, u64>,
    /// Metadata written by the exporter: `names`, `imgsz`, `task`, …
    pub metadata: BTreeMap<String, String>,
    /// True if weights are stored in another file.
    pub has_external_data: bool,
}

/// How to save a model whose weights are in another file (`has_external_data`) as one file.
#[cfg(feature = "ort")]
pub(crate) const EMBED_WEIGHTS: &str = "its weights are in another file, usually FILE.onnx.data, and a model here is one file that its \
    checksum covers; put them inside with `python3 -c \"import onnx; onnx.save(onnx.load('FILE.onnx'), 'one.onnx')\"` beside that file, \
    or export with external_data=False (torch.onnx.export)";

/// The file is not an ONNX file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an ONNX file, or damaged at byte {offset}; copy or export it again")]
pub struct NotOnnx {
    /// Byte offset at which parsing failed.
    pub offset: usize,
}

impl Graph {
    /// Parses the header.
    ///
    /// # Errors
    /// Anything but a complete `ModelProto` with a graph and an operator set.
    pub fn read(bytes: &[u8]) -> Result<Self, NotOnnx> {
        let mut graph = Self::default();
        let mut has_graph = false;
        for field in Fields::of(bytes, 0) {
            match field? {
                Field { number: 1, value, .. } => graph.ir_version = value.number(),
                Field { number: 2, value, .. } => graph.producer = value.text(),
                Field { number: 3, value, .. } if !value.text().is_empty() => {
                    graph.producer = format!("{} {}", graph.producer, value.text());
                }
                Field { number: 7, value, at } => {
                    has_graph = true;
                    graph.has_external_data |= Message::Graph.has_external(value.bytes(), at, 0)?;
                }
                Field { number: 20, value, at } => {
                    graph.has_external_data |= Message::Training.has_external(value.bytes(), at, 0)?;
                }
                Field { number: 25, value, at } => {
                    graph.has_external_data |= Message::Function.has_external(value.bytes(), at, 0)?;
                }
                Field { number: 8, value, at } => {
                    let (mut domain, mut version) = (String::new(), 0);
                    for field in Fields::of(value.bytes(), at) {
                        match field? {
                            Field { number: 1, value, .. } => domain = value.text(),
                            Field { number: 2, value, .. } => version = value.number(),
                            _ => {}
                        }
                    }
                    graph.opsets.insert(domain, version);
                }
                Field { number: 14, value, at } => {
                    let (mut key, mut text) = (String::new(), String::new());
                    for field in Fields::of(value.bytes(), at) {
                        match field? {
                            Field { number: 1, value, .. } => key = value.text(),
                            Field { number: 2, value, .. } => text = value.text(),
                            _ => {}
                        }
                    }
                    graph.metadata.insert(key, text);
                }
                _ => {}
            }
        }
        match has_graph && !graph.opsets.is_empty() {
            true => Ok(graph),
            false => Err(NotOnnx { offset: bytes.len() }),
        }
    }

    /// Class names from the metadata, in the network's order: `names` as written by Ultralytics (`{0: 'person', 1: 'bicycle'}`), a
    /// JSON list or object, or a comma-separated `classes`.
    pub fn class_names(&self) -> Option<Vec<String>> {
        if let Some(names) = self.metadata.get("names") {
            return parse_names(names);
        }
        let classes = self.metadata.get("classes")?;
        let names: Vec<String> = classes.split(',').map(|n| n.trim().to_owned()).collect();
        names.iter().all(|n| !n.is_empty()).then_some(names)
    }

    /// Width and height from the metadata `imgsz` (`[height, width]`, or one number for both).
    pub fn image_size(&self) -> Option<(u32, u32)> {
        let text = self.metadata.get("imgsz")?;
        let numbers: Vec<u32> = text
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse().ok())
            .collect();
        match numbers[..] {
            [side] => Some((side, side)),
            [height, width] => Some((width, height)),
            _ => None,
        }
    }
}

/// The quoted strings in `{0: 'a', 1: "it's"}` or `["a", "b"]`. Keys, if present, must count up from 0.
fn parse_names(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['\'', '"']) {
        let key: String = rest[..start].chars().filter(char::is_ascii_digit).collect();
        if !key.is_empty() && key.parse() != Ok(names.len()) {
            return None;
        }
        let quote = if rest[start..].starts_with('\'') { '\'' } else { '"' };
        let mut name = String::new();
        let mut chars = rest[start + 1..].char_indices();
        let end = loop {
            match chars.next()? {
                (_, '\\') => name.push(chars.next()?.1),
                (at, c) if c == quote => break start + 1 + at + 1,
                (_, c) => name.push(c),
            }
        };
        rest = &rest[end..];
        // In JSON the key is quoted as well: `{"0": "person"}`.
        if rest.trim_start().starts_with(':') {
            if name.parse() != Ok(names.len()) {
                return None;
            }
            continue;
        }
        names.push(name);
    }
    (!names.is_empty()).then_some(names)
}

/// Messages in which a tensor can lie: weights are initializers of the graph, but also attributes of a node (`Constant`), or within the branches
/// of an `If`, a function, or what was left from training.
#[derive(Debug, Clone, Copy)]
enum Message {
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    Function,
    Training,
}

/// Deepest nesting; exporters stay below ten.
const MAX_NESTING: usize = 64;

impl Message {
    /// The message in field `number`, by `onnx.proto3`, if tensors can lie in it.
    fn field(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Self::Tensor,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::SparseTensor,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Attribute, 6 | 11) | (Self::Training, 1 | 2) => Self::Graph,
            _ => return None,
        })
    }

    /// True if a tensor in it is stored in another file, or says where.
    fn has_external(self, bytes: &[u8], at: usize, depth: usize) -> Result<bool, NotOnnx> {
        if depth > MAX_NESTING {
            return Err(NotOnnx { offset: at });
        }
        for field in Fields::of(bytes, at) {
            let Field { number, value, at } = field?;
            let is_external = match self {
                // `external_data`, and `data_location` EXTERNAL.
                Self::Tensor => number == 13 || number == 14 && value.number() as u32 != 0,
                _ => match self.field(number) {
                    Some(message) => message.has_external(value.bytes(), at, depth + 1)?,
                    None => false,
                },
            };
            if is_external {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

struct Field<'a> {
    number: u64,
    value: Wire<'a>,
    /// Offset of the value in the file.
    at: usize,
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn number(&self) -> u64 {
        match self {
            Self::Number(n) => *n,
            Self::Bytes(_) => 0,
        }
    }

    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Number(_) => &[],
            Self::Bytes(bytes) => bytes,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// The fields of a message (protobuf.dev, "Encoding").
struct Fields<'a> {
    bytes: &'a [u8],
    next: usize,
    base: usize,
}

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8], base: usize) -> Self {
        Self { bytes, next: 0, base }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.next)?;
            self.next += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.next..self.next.checked_add(length)?)?;
        self.next += length;
        Some(taken)
    }

    fn field(&mut self) -> Option<Field<'a>> {
        // A longer tag would be cut to 32 bits by other readers, and be another field for them.
        let tag = self.varint().filter(|tag| *tag <= u64::from(u32::MAX))?;
        let at = self.base + self.next;
        let value = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let at = self.base + self.next;
                let value = Wire::Bytes(self.take(length)?);
                return Some(Field {
                    number: tag >> 3,
                    value,
                    at,
                });
            }
            5 => Wire::Bytes(self.take(4)?),
            _ => return None,
        };
        (tag >> 3 != 0).then_some(Field {
            number: tag >> 3,
            value,
            at,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, NotOnnx>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.bytes.len() {
            return None;
        }
        let field = self.field().ok_or(NotOnnx {
            offset: self.base + self.next,
        });
        if field.is_err() {
            self.next = self.bytes.len();
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_are_parsed_in_the_formats_of_exporters() {
        let read = |text: &str| parse_names(text);
        let two = Some(vec!["person".to_owned(), "fire hydrant".to_owned()]);
        assert_eq!(read("{0: 'person', 1: 'fire hydrant'}"), two);
        assert_eq!(read("['person', 'fire hydrant']"), two);
        assert_eq!(read(r#"{"0": "person", "1": "fire hydrant"}"#), two);
        assert_eq!(
            read(r#"{0: "driver's cab", 1: 'a\'b'}"#),
            Some(vec!["driver's cab".into(), "a'b".into()])
        );
        assert_eq!(
            read("{0: 'person', 2: 'bicycle'}"),
            None,
            "a gap would shift all following classes"
        );
        assert_eq!(read("{0: 'person"), None);
        assert_eq!(read("{}"), None);
    }

    /// A field that holds a message or a string.
    fn field(number: u64, content: &[u8]) -> Vec<u8> {
        let varint = |mut n: u64| {
            let mut bytes = Vec::new();
            while n >= 0x80 {
                bytes.push(n as u8 | 0x80);
                n >>= 7;
            }
            bytes.push(n as u8);
            bytes
        };
        [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
    }

    /// A model with `parts` beside its operator set.
    fn model(parts: &[Vec<u8>]) -> Result<Graph, NotOnnx> {
        let opset = field(8, &[0x10, 17]);
        Graph::read(&[opset, field(7, &[]), parts.concat()].concat())
    }

    #[test]
    fn weights_in_another_file_are_found_wherever_they_lie() {
        let external = [0x70, 1]; // data_location: EXTERNAL
        let named = field(13, &field(1, b"location"));
        let inside = [0x70, 0];
        let constant = |tensor: &[u8]| field(1, &field(5, &field(5, tensor)));
        let branch = |graph: &[u8]| field(1, &field(5, &field(6, graph)));
        let places = [
            ("initializer", field(7, &field(5, &external))),
            ("by location alone", field(7, &field(5, &named))),
            ("constant", field(7, &constant(&external))),
            ("one of several", field(7, &field(1, &field(5, &field(10, &external))))),
            ("sparse", field(7, &field(15, &field(1, &external)))),
            ("in a branch", field(7, &branch(&constant(&external)))),
            (
                "in a branch of a branch",
                field(7, &branch(&branch(&field(5, &external)))),
            ),
            ("function", field(25, &field(7, &field(5, &field(5, &external))))),
            ("training", field(20, &field(2, &constant(&external)))),
        ];
        for (place, part) in places {
            assert!(model(&[part]).unwrap().has_external_data, "{place}");
        }
        let whole = [field(7, &constant(&inside)), field(7, &branch(&field(5, &inside)))];
        assert!(!model(&whole).unwrap().has_external_data);
        let long_tag = [&[0xba, 0x80, 0x80, 0x80, 0x10, 2][..], &[0x70, 1]].concat();
        assert!(
            model(&[long_tag]).is_err(),
            "field 7 for a reader that cuts tags to 32 bits"
        );
        let deep = (0..100).fold(Vec::new(), |graph, _| branch(&graph));
        assert!(model(&[field(7, &deep)]).is_err(), "nested without end");
    }

    #[test]
    fn anything_but_a_protocol_buffer_is_refused() {
        for bytes in [&b""[..], b"not a network", &[0x0a, 0xff, 0xff], &[0x08]] {
            assert!(Graph::read(bytes).is_err(), "{bytes:?}");
        }
    }
}
