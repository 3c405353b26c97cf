//! The system log as a second place for acts of persons: one datagram to `/dev/log` for each, in the format of RFC 5424.

use std::{io, os::unix::net::UnixDatagram, path::Path, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use gridwatch_base::person::Person;
use gridwatch_custody::chain::ActResult;
use gridwatch_store::{AppendedLine, NewAct};

/// Where the local syslog daemon, or journald in its place, listens.
const SOCKET: &str = "/dev/log";

/// Facility 10, security and authorization messages (RFC 5424, table 1): its logs are not readable by everybody.
const AUTHPRIV: u8 = 10;
/// Severities (table 2).
const WARNING: u8 = 4;
const NOTICE: u8 = 5;

/// Largest message in bytes. RFC 5424, section 6.1, asks receivers to take 2048.
const MAX_MESSAGE: usize = 2048;

/// How long a log daemon that does not read its socket may hold a command up.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The message: JSON, which escapes what an act quotes.
#[derive(Serialize)]
struct Message<'a> {
    /// Number and hash of the line in the chain.
    seq: u64,
    hash: &'a str,
    act: &'a str,
    result: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    case_id: Option<&'a str>,
    who: &'a Person,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a std::collections::BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    /// What was done, the reason and the error are too long, and only in the chain.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_shortened: bool,
}

/// Sends an act that was recorded as `line`.
pub(super) fn send(act: &NewAct<'_>, line: &AppendedLine) -> io::Result<()> {
    send_to(Path::new(SOCKET), act, line)
}

fn send_to(path: &Path, act: &NewAct<'_>, line: &AppendedLine) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.connect(path)?;
    socket.send(message(act, line, Timestamp::now()).as_bytes())?;
    Ok(())
}

/// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG`, in ASCII. The local daemon fills in the host.
fn message(act: &NewAct<'_>, line: &AppendedLine, now: Timestamp) -> String {
    let severity = match act.result {
        ActResult::Done => NOTICE,
        ActResult::Refused | ActResult::Failed => WARNING,
    };
    let priority = AUTHPRIV * 8 + severity;
    let header = format!("<{priority}>1 {now:.6} - gridwatch {} audit - ", std::process::id());
    let details = act.details;
    let full = Message {
        seq: line.seq,
        hash: &line.hash,
        act: act.act,
        result: act.result.as_str(),
        case_id: act.case,
        who: &details.who,
        what: (!details.what.is_empty()).then_some(&details.what),
        reason: details.reason.as_deref(),
        error: details.error.as_deref(),
        is_shortened: false,
    };
    let text = header.clone() + &ascii_json(&full);
    if text.len() <= MAX_MESSAGE {
        return text;
    }
    let short = Message {
        what: None,
        reason: None,
        error: None,
        is_shortened: true,
        ..full
    };
    let mut text = header + &ascii_json(&short);
    // Longer only with user names that no system has; all of it is ASCII.
    text.truncate(MAX_MESSAGE);
    text
}

/// JSON with every character outside ASCII as `\uXXXX`: receivers disagree on the encoding of messages, and some characters reorder a line.
fn ascii_json(value: &impl Serialize) -> String {
    // Strings and numbers under string keys always serialize.
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            ' '..='~' => text.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    text += &format!("\\u{unit:04x}");
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use gridwatch_custody::chain::Details;

    use super::*;

    fn sent(reason: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = UnixDatagram::bind(&path).unwrap();
        let mut details = Details::new(Person::current()).unwrap();
        details.what.insert("file".into(), "/media/usb".into());
        details.reason = Some(reason.to_owned());
        let act = NewAct {
            act: "cases export",
            case: Some("01JW"),
            result: ActResult::Refused,
            details: &details,
        };
        let line = AppendedLine {
            seq: 7,
            hash: "ab".repeat(32),
        };
        send_to(&path, &act, &line).unwrap();
        let mut buffer = [0; 10_000];
        let length = log.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn an_act_is_one_message_of_rfc_5424_with_its_line() {
        let text = sent("complaint\n<0>1 forged \u{1b}[31m 垃圾\u{202e}");
        assert!(text.starts_with("<84>1 20") && text.is_ascii(), "{text}");
        assert!(!text.contains(|c: char| c.is_control()), "{text}");
        let fields: Vec<&str> = text.splitn(8, ' ').collect();
        assert_eq!(
            (fields[2], fields[3], fields[5], fields[6]),
            ("-", "gridwatch", "audit", "-")
        );
        let message: serde_json::Value = serde_json::from_str(fields[7]).unwrap();
        assert_eq!((&message["seq"], &message["act"]), (&7.into(), &"cases export".into()));
        assert_eq!(message["what"]["file"], "/media/usb");
        assert!(
            message["reason"].as_str().unwrap().ends_with("垃圾\u{202e}"),
            "{message}"
        );
    }

    #[test]
    fn a_long_act_is_shortened_and_stays_json() {
        let text = sent(&"\u{1b}".repeat(1 << 20));
        assert!(text.len() <= MAX_MESSAGE);
        let json = text.splitn(8, ' ').nth(7).unwrap();
        let message: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((&message["is_shortened"], &message["seq"]), (&true.into(), &7.into()));
        assert!(message.get("reason").is_none());
    }

    #[test]
    fn a_log_that_is_not_there_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let details = Details::new(Person::current()).unwrap();
        let act = NewAct {
            act: "keys rotate",
            case: None,
            result: ActResult::Done,
            details: &details,
        };
        let line = AppendedLine {
            seq: 0,
            hash: String::new(),
        };
        assert!(send_to(&dir.path().join("none"), &act, &line).is_err());
    }
}
