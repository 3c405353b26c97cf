//! What `gridwatch camera probe` prints: facts, advice, and the table for the configuration.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use gridwatch_base::{error::Class, language::Language};
use gridwatch_camera::{Auth, Transport};
use gridwatch_onvif::{
    advice::Severity,
    brand::StreamRole,
    probe::{CameraProbe, StreamFacts, StreamOutcome, StreamResult, UrlSource},
};
use serde_json::{Value, json};
use toml_edit::{ArrayOfTables, DocumentMut, InlineTable, Table, value};
use url::Url;

use super::{super::Failure, picture::FirstPicture};

/// How the configuration names the login.
pub(super) enum CredentialsSetting {
    /// A variable that exists.
    Variable(String),
    /// A file that exists.
    File(PathBuf),
    /// A file to be written.
    NewFile(PathBuf),
}

/// What is printed.
pub(super) struct Shown<'a> {
    pub(super) probe: &'a CameraProbe,
    pub(super) credentials: Option<CredentialsSetting>,
    pub(super) id: &'a str,
    pub(super) auth: Auth,
    pub(super) transport: Transport,
    pub(super) ca_file: Option<&'a Path>,
    pub(super) pin_sha256: Option<&'a str>,
    pub(super) picture: Option<&'a FirstPicture>,
}

pub(super) fn role(role: StreamRole) -> &'static str {
    match role {
        StreamRole::Main => "main",
        StreamRole::Sub => "sub",
    }
}

/// A URL for the terminal while it is tried.
pub(super) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    let hidden = if url.query().is_some() { "?…" } else { "" };
    shown.set_query(None);
    format!("{shown}{hidden}")
}

impl Shown<'_> {
    /// Facts, advice and the table, for a person.
    pub(super) fn text(&self, language: Language) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text, language);
        text
    }

    fn write(&self, out: &mut String, language: Language) -> std::fmt::Result {
        let facts = &self.probe.facts;
        let information = facts.device.as_ref().and_then(|device| device.information.as_ref());
        match information {
            Some(found) => writeln!(
                out,
                "{}: {} {}, firmware {}",
                facts.host, found.manufacturer, found.model, found.firmware
            )?,
            None => writeln!(
                out,
                "{}: {}",
                facts.host,
                facts.brand.as_deref().unwrap_or("make not known")
            )?,
        }
        if let Some(device) = &facts.device {
            write!(out, "  ONVIF  {}", device.address)?;
            if let Some(login) = &device.login {
                write!(out, ", login {login}")?;
            }
            if let Some(clock) = device.clock {
                let by = if clock.is_ntp { "NTP" } else { "set by hand" };
                write!(out, ", clock {:+.0} s ({by})", clock.difference_s)?;
            }
            writeln!(out)?;
        }
        for stream in &facts.streams {
            self.stream(out, stream)?;
        }
        if let Some(picture) = self.picture {
            writeln!(out, "  picture  {picture}")?;
        }
        if !self.probe.advice.is_empty() {
            writeln!(out, "\n{}", if language == Language::Zh { "建议" } else { "Advice" })?;
        }
        for advice in &self.probe.advice {
            let severity = match (advice.severity, language) {
                (Severity::Problem, Language::En) => "PROBLEM",
                (Severity::Warning, Language::En) => "warning",
                (Severity::Note, Language::En) => "note   ",
                (Severity::Problem, Language::Zh) => "必须处理",
                (Severity::Warning, Language::Zh) => "建议处理",
                (Severity::Note, Language::Zh) => "供参考　",
            };
            writeln!(out, "  {severity}  {}", advice.text(language))?;
        }
        if let Some(snippet) = self.snippet() {
            write!(out, "\n{snippet}")?;
        }
        Ok(())
    }

    fn stream(&self, out: &mut String, stream: &StreamResult) -> std::fmt::Result {
        let source = match stream.source {
            UrlSource::Given => "as given",
            UrlSource::Onvif => "named by the camera",
            UrlSource::Brand => "by the brand's pattern",
        };
        let mark = if self.probe.facts.proposed == Some(stream.role) {
            ", proposed"
        } else {
            ""
        };
        writeln!(out, "  {}  {} ({source}{mark})", role(stream.role), shown(&stream.url))?;
        match &stream.outcome {
            StreamOutcome::Received(facts) => writeln!(out, "        {}", described(facts)),
            StreamOutcome::Failed { error, .. } => writeln!(out, "        does not play: {error}"),
        }
    }

    /// The `[[cameras]]` table of the proposed stream, without credentials.
    fn snippet(&self) -> Option<String> {
        let facts = &self.probe.facts;
        let proposed = facts.proposed?;
        let (stream, url) = (facts.stream(proposed)?, facts.url(proposed)?);
        let mut table = Table::new();
        table.insert("id", value(self.id));
        table.insert("url", value(url.as_str()));
        let mut remark = String::new();
        let setting = self.credentials.as_ref().filter(|_| stream.login.is_some());
        if let Some(setting) = setting {
            let (key, name) = match setting {
                CredentialsSetting::Variable(name) => ("env", name.clone()),
                CredentialsSetting::File(file) => ("file", file.display().to_string()),
                CredentialsSetting::NewFile(file) => {
                    remark = format!("# Write user:password into {}, mode 0600.\n", file.display());
                    ("file", file.display().to_string())
                }
            };
            table.insert("credentials", value(InlineTable::from_iter([(key, name)])));
        }
        // Digest worked: from now on nothing else is answered, whoever answers at this address.
        let is_digest = stream.login.as_deref().is_some_and(|login| login.starts_with("Digest"));
        let auth = if is_digest { Auth::Digest } else { self.auth };
        match auth {
            Auth::Digest if is_digest => drop(table.insert("auth", value("digest"))),
            Auth::Basic => drop(table.insert("auth", value("basic"))),
            _ => {}
        }
        match self.transport {
            Transport::Tcp => {}
            Transport::Udp => drop(table.insert("transport", value("udp"))),
            Transport::Http => drop(table.insert("transport", value("http"))),
        }
        if url.scheme() == "rtsps" {
            if let Some(file) = self.ca_file {
                table.insert("ca_file", value(file.display().to_string()));
            }
            if let Some(pin) = self.pin_sha256 {
                table.insert("pin_sha256", value(pin));
            }
        }
        let mut tables = ArrayOfTables::new();
        tables.push(table);
        let mut document = DocumentMut::new();
        document.insert("cameras", tables.into());
        let place = "# place = { lon = 121.4737, lat = 31.2304 } # required: the ground that it sees\n";
        Some(format!("{remark}{document}{place}"))
    }

    /// Everything as JSON: facts, advice with its texts, and the table.
    pub(super) fn json(&self, language: Language) -> Result<Value, Failure> {
        let bug = |e: serde_json::Error| Failure::new(Class::Bug, format!("cannot serialize the result as JSON: {e}"));
        let mut advice = Vec::new();
        for found in &self.probe.advice {
            let mut value = serde_json::to_value(found).map_err(bug)?;
            if let Value::Object(map) = &mut value {
                map.insert("text".to_owned(), found.text(language).into());
            }
            advice.push(value);
        }
        Ok(json!({
            "facts": serde_json::to_value(&self.probe.facts).map_err(bug)?,
            "advice": advice,
            "picture": serde_json::to_value(self.picture).map_err(bug)?,
            "snippet": self.snippet(),
        }))
    }
}

fn described(facts: &StreamFacts) -> String {
    let mut text = format!(
        "{} {}×{}, {:.1} pictures/s, {:.2} Mb/s",
        facts.codec,
        facts.width,
        facts.height,
        facts.frame_rate,
        facts.bit_rate / 1e6
    );
    if let Some(interval) = facts.keyframe_interval {
        let more = if interval.is_at_least { "more than " } else { "" };
        text += &match interval.longest_s - interval.shortest_s > 0.5 {
            true => format!(
                ", keyframe every {:.1} to {more}{:.1} s",
                interval.shortest_s, interval.longest_s
            ),
            false => format!(", keyframe every {more}{:.1} s", interval.longest_s),
        };
        text += &format!(" ({} kB)", facts.keyframe_bytes / 1_000);
    }
    let login = facts.login.as_deref().unwrap_or("no login");
    text += &format!(", loss {:.1} %, {}, {login}", facts.loss * 100.0, facts.transport);
    if let Some(first) = facts.first_picture_s {
        text += &format!(", first picture after {first:.1} s");
    }
    if let Some(difference) = facts.clock_difference_s {
        text += &format!(", clock {:+.1} s (RTCP)", (difference * 10.0).round() / 10.0 + 0.0);
    }
    text
}
