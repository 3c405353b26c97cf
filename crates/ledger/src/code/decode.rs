//! Bytes to events.

use jiff::Timestamp;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use super::{
    APPEARANCES, CONFIGURED, ConfiguredRecord, ELSEWHERE, EVIDENCE_FAILED, EXTENDED, Entry, HEAD, HELD_BACK,
    KNOWN_CASE, LOOK, NEWNESS, NIGHT, NOT_SEARCHED, NUMBERS, REAIMED, REPLY, RESTORED, RESUMED, RecordedEvent,
    SECOND_LOOK, TEXTS, TICK, VIEWS,
};
use gridwatch_engine::{
    AdvertText, Appearance, BBox, CameraId, CaseId, Detection, Elsewhere, Label, Light, Newness, Observation,
    PhoneNumber, RuleId, SecondLookScore, TextReading,
};

/// An [`ELSEWHERE`] record, also as earlier versions wrote it.
#[derive(Deserialize)]
#[serde(untagged)]
enum ClaimNews {
    Current(Elsewhere),
    Earlier {
        #[serde(rename = "what")]
        _what: EarlierNews,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum EarlierNews {
    Claimed(IgnoredAny),
}

/// A [`CONFIGURED`] record, also as earlier versions wrote it.
#[derive(Deserialize)]
#[serde(untagged)]
enum ConfigurationChange {
    Current(ConfiguredRecord),
    /// The hash alone.
    Earlier(String),
}

/// Why a record cannot be decoded.
pub(crate) type DecodeError = &'static str;

/// A name, as camera and as label.
#[derive(Debug)]
struct Name {
    camera: CameraId,
    label: Label,
}

/// Decodes the records of one file.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Interned, because a week of looks repeats them millions of times.
    names: Vec<Name>,
    last: i128,
}

impl Decoder {
    pub(crate) fn new(started_at: Timestamp) -> Self {
        Self {
            names: Vec::new(),
            last: started_at.as_nanosecond(),
        }
    }

    /// Decodes one payload.
    pub(crate) fn entry(&mut self, payload: &[u8]) -> Result<Entry, DecodeError> {
        let mut bytes = ByteReader(payload);
        let event = match bytes.byte()? {
            HEAD => RecordedEvent::Head(bytes.json()?),
            KNOWN_CASE => RecordedEvent::KnownCase(bytes.json()?),
            HELD_BACK => RecordedEvent::HeldBack(bytes.json()?),
            LOOK => RecordedEvent::Observed(self.look(&mut bytes)?),
            TICK => RecordedEvent::Tick(self.time(&mut bytes)?),
            REPLY => RecordedEvent::Reply(bytes.json()?),
            EVIDENCE_FAILED => RecordedEvent::EvidenceFailed { case: bytes.json()? },
            RESTORED => RecordedEvent::Restored(bytes.json()?),
            RESUMED => RecordedEvent::Resumed(bytes.json()?),
            CONFIGURED => {
                let (config_sha256, plan) = match bytes.json()? {
                    ConfigurationChange::Current(ConfiguredRecord { config_sha256, plan }) => (config_sha256, plan),
                    ConfigurationChange::Earlier(config_sha256) => (config_sha256, None),
                };
                RecordedEvent::Configured { config_sha256, plan }
            }
            REAIMED => RecordedEvent::Reaimed(bytes.json()?),
            ELSEWHERE => match bytes.json()? {
                ClaimNews::Current(news) => RecordedEvent::Elsewhere(news),
                ClaimNews::Earlier { .. } => RecordedEvent::OpenedElsewhere,
            },
            _ => return Err("unknown kind of record"),
        };
        let mut opened = Vec::new();
        while !bytes.0.is_empty() {
            opened.push(CaseId::from(bytes.text()?));
        }
        Ok(Entry { event, opened })
    }

    fn look(&mut self, bytes: &mut ByteReader<'_>) -> Result<Observation, DecodeError> {
        let camera = self.name(bytes)?.camera.clone();
        let at = self.time(bytes)?;
        let code = bytes.byte()?;
        let light = if code & NIGHT == 0 { Light::Day } else { Light::Night };
        let view = code & !(NIGHT | APPEARANCES | NUMBERS | NOT_SEARCHED | SECOND_LOOK);
        let (view, extension) = match view {
            EXTENDED => {
                let extended = bytes.byte()?;
                (extended & EXTENDED, extended & !EXTENDED)
            }
            view => (view, 0),
        };
        if extension & !(NEWNESS | TEXTS) != 0 {
            return Err("unknown fields of a look");
        }
        let view = *VIEWS.get(usize::from(view)).ok_or("unknown view code")?;
        let count = bytes.length()?;
        let mut detections = Vec::with_capacity(count.min(bytes.0.len() / MIN_DETECTION_BYTES));
        for _ in 0..count {
            let label = self.name(bytes)?.label.clone();
            let [score, x1, y1, x2, y2] = [bytes.f32()?, bytes.f32()?, bytes.f32()?, bytes.f32()?, bytes.f32()?];
            let bbox = BBox { x1, y1, x2, y2 };
            let appearance = match code & APPEARANCES != 0 && bytes.byte()? != 0 {
                true => Some(Appearance(bytes.array()?)),
                false => None,
            };
            let number = match code & NUMBERS != 0 {
                true => Some(bytes.text()?).filter(|n| !n.is_empty()).map(PhoneNumber::from),
                false => None,
            };
            let second_looks = match code & SECOND_LOOK {
                0 => Vec::new(),
                _ => self.second_looks(bytes)?,
            };
            let newness = match extension & NEWNESS {
                0 => None,
                _ => bytes.newness(at)?,
            };
            let text = match extension & TEXTS {
                0 => None,
                _ => bytes.text_reading()?,
            };
            detections.push(Detection {
                label,
                score,
                bbox,
                appearance,
                number,
                text,
                second_looks,
                newness,
            });
        }
        let mut not_searched = Vec::new();
        if code & NOT_SEARCHED != 0 {
            for _ in 0..bytes.length()? {
                not_searched.push(self.name(bytes)?.label.clone());
            }
        }
        Ok(Observation {
            camera,
            at,
            view,
            light,
            detections,
            not_searched,
        })
    }

    fn second_looks(&mut self, bytes: &mut ByteReader<'_>) -> Result<Vec<SecondLookScore>, DecodeError> {
        match bytes.byte()? {
            0 => Ok(Vec::new()),
            1 => Ok(vec![SecondLookScore {
                rule: None,
                score: bytes.f32()?,
            }]),
            2 => {
                let count = bytes.length()?;
                let mut scores = Vec::with_capacity(count.min(bytes.0.len() / MIN_SECOND_LOOK_BYTES));
                for _ in 0..count {
                    let name = self.name(bytes)?.label.as_str();
                    let rule = Some(name).filter(|n| !n.is_empty()).map(RuleId::from);
                    scores.push(SecondLookScore {
                        rule,
                        score: bytes.f32()?,
                    });
                }
                Ok(scores)
            }
            _ => Err("unknown form of second looks"),
        }
    }

    fn time(&mut self, bytes: &mut ByteReader<'_>) -> Result<Timestamp, DecodeError> {
        let step = bytes.signed_varint()?;
        self.last = self.last.checked_add(step).ok_or(INVALID_TIME)?;
        Timestamp::from_nanosecond(self.last).map_err(|_| INVALID_TIME)
    }

    fn name(&mut self, bytes: &mut ByteReader<'_>) -> Result<&Name, DecodeError> {
        let number = bytes.length()?;
        let index = if number == 0 {
            let name = bytes.text()?;
            self.names.push(Name {
                camera: name.into(),
                label: name.into(),
            });
            self.names.len() - 1
        } else {
            number - 1
        };
        self.names.get(index).ok_or("reference to an undefined name")
    }
}

/// Encoded size of a detection without optional fields.
pub(super) const MIN_DETECTION_BYTES: usize = 21;
/// Smallest size of a second look's score: the number of its rule's name, and the score.
const MIN_SECOND_LOOK_BYTES: usize = 5;
const TRUNCATED: DecodeError = "truncated record";
const INVALID_TIME: DecodeError = "invalid time";

struct ByteReader<'a>(&'a [u8]);

impl<'a> ByteReader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.0.split_first().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn f32(&mut self) -> Result<f32, DecodeError> {
        self.array().map(f32::from_le_bytes)
    }

    fn varint(&mut self) -> Result<u128, DecodeError> {
        let mut n = 0u128;
        for shift in (0..u128::BITS).step_by(7) {
            let byte = self.byte()?;
            n |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err("varint too long")
    }

    fn signed_varint(&mut self) -> Result<i128, DecodeError> {
        let zigzag = self.varint()?;
        Ok((zigzag >> 1) as i128 ^ -((zigzag & 1) as i128))
    }

    /// The newness of a detection in the look at `at`.
    fn newness(&mut self, at: Timestamp) -> Result<Option<Newness>, DecodeError> {
        let fields = self.byte()?;
        if fields == 0 {
            return Ok(None);
        }
        let share = self.f32()?;
        let since = match fields {
            1 => None,
            2 => {
                let since = at
                    .as_nanosecond()
                    .checked_sub(self.signed_varint()?)
                    .ok_or(INVALID_TIME)?;
                Some(Timestamp::from_nanosecond(since).map_err(|_| INVALID_TIME)?)
            }
            _ => return Err("unknown newness fields"),
        };
        Ok(Some(Newness { share, since }))
    }

    fn text_reading(&mut self) -> Result<Option<TextReading>, DecodeError> {
        Ok(match self.text()? {
            "" => None,
            text => Some(TextReading {
                text: AdvertText::from(text),
                score: self.f32()?,
            }),
        })
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.varint()?).map_err(|_| TRUNCATED)
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| "text is not UTF-8")
    }

    fn json<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        let length = self.length()?;
        serde_json::from_slice(self.take(length)?).map_err(|_| "unreadable JSON fields")
    }
}
