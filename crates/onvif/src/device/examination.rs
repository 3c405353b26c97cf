//! The calls to a device, one after the other, until the time for all is over.

use std::time::Instant;

use gridwatch_base::text::printable;
use url::Url;

use super::{
    DEVICE, DeviceProblem, DeviceReport, MAX_PROFILES, MAX_STREAMS, MEDIA, MEDIA_2, NamedAddress, OnvifError,
    client::{Client, name},
    read,
};
use crate::{http, xml::cut};

pub(super) struct Examination<'a, 'b> {
    pub(super) client: &'a mut Client<'b>,
    pub(super) report: &'a mut DeviceReport,
    /// When all calls must be done.
    pub(super) end: Instant,
}

/// Errors after which no further call is made.
fn is_final(error: &OnvifError) -> bool {
    matches!(
        error,
        OnvifError::LoginRequired { .. }
            | OnvifError::LoginRefused { .. }
            | OnvifError::PasswordInClear { .. }
            | OnvifError::TimeOver { .. }
    )
}

impl Examination<'_, '_> {
    pub(super) async fn run(&mut self) -> Result<(), OnvifError> {
        let own = self.report.address.clone();
        match self.client.call(&own, DEVICE, "GetDeviceInformation", "").await {
            Ok(answer) => self.report.information = Some(read::information(&answer)),
            Err(error) => self.failed("GetDeviceInformation", error)?,
        }
        let (media, media_2) = self.media_services(&own).await?;
        let mut service = None;
        for (url, is_2) in [(media_2, true), (media, false)] {
            let Some(url) = url else { continue };
            self.in_time("GetProfiles")?;
            let (namespace, body) = if is_2 {
                (MEDIA_2, "<Type>All</Type>")
            } else {
                (MEDIA, "")
            };
            match self.client.call(&url, namespace, "GetProfiles", body).await {
                Ok(answer) => {
                    self.report.profiles = read::profiles(&answer);
                    service = Some((url, is_2));
                    if !self.report.profiles.is_empty() {
                        break;
                    }
                }
                Err(error) => self.failed("GetProfiles", error)?,
            }
        }
        let Some((url, is_2)) = service else { return Ok(()) };
        let count = self.report.profiles.len();
        if count > MAX_STREAMS {
            self.report
                .problems
                .push(DeviceProblem::TooManyProfiles { limit: MAX_STREAMS });
        }
        for i in 0..count.min(MAX_STREAMS) {
            let token = self.report.profiles[i].token.clone();
            self.report.profiles[i].stream = self.address(&url, is_2, "GetStreamUri", &token).await?;
            self.report.profiles[i].snapshot = self.address(&url, is_2, "GetSnapshotUri", &token).await?;
        }
        Ok(())
    }

    /// Where the media services are: by GetServices, by GetCapabilities, or at the device service itself.
    async fn media_services(&mut self, own: &Url) -> Result<(Option<Url>, Option<Url>), OnvifError> {
        self.in_time("GetServices")?;
        let body = "<IncludeCapability>false</IncludeCapability>";
        let found = match self.client.call(own, DEVICE, "GetServices", body).await {
            Ok(answer) => [read::service(&answer, MEDIA), read::service(&answer, MEDIA_2)],
            Err(error) if is_final(&error) => return Err(error),
            // Devices of before 2011 have no GetServices.
            Err(_) => [None, None],
        };
        let [media, media_2] = found.map(|url| url.map(|url| self.at_own_host(&url, "media service")));
        if media.is_some() || media_2.is_some() {
            return Ok((media, media_2));
        }
        self.in_time("GetCapabilities")?;
        let media = match self
            .client
            .call(own, DEVICE, "GetCapabilities", "<Category>Media</Category>")
            .await
        {
            Ok(answer) => read::media_capability(&answer).map(|url| self.at_own_host(&url, "media service")),
            Err(error) => {
                self.failed("GetCapabilities", error)?;
                None
            }
        };
        Ok((Some(media.unwrap_or_else(|| own.clone())), None))
    }

    async fn address(
        &mut self,
        service: &Url,
        is_2: bool,
        call: &'static str,
        token: &str,
    ) -> Result<Option<NamedAddress>, OnvifError> {
        self.in_time(call)?;
        let (namespace, body) = read::address_request(is_2, call, token);
        let text = match self.client.call(service, namespace, call, &body).await {
            Ok(answer) => read::address(&answer),
            // Many devices have no snapshots.
            Err(error) if call == "GetSnapshotUri" && !is_final(&error) => None,
            Err(error) => {
                self.failed(call, error)?;
                None
            }
        };
        Ok(text.and_then(|text| self.named(&text, call)))
    }

    /// An address in a reply, moved to the named host if it lies elsewhere.
    fn named(&mut self, text: &str, call: &'static str) -> Option<NamedAddress> {
        let is_stream = call == "GetStreamUri";
        let schemes: &[&str] = if is_stream {
            &["rtsp", "rtsps"]
        } else {
            &["http", "https"]
        };
        let mut url = Url::parse(text).ok().filter(|url| schemes.contains(&url.scheme()))?;
        url.host_str().filter(|host| !host.is_empty())?;
        // These fail only for URLs without a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let named = http::host(&url).to_owned();
        if self.client.is_own_host(&named) {
            return Some(NamedAddress { url, elsewhere: None });
        }
        url.set_host(self.report.address.host_str()).ok()?;
        if !is_stream {
            // The port is that of the web service, which may be forwarded.
            let _ = url.set_port(self.report.address.port());
        }
        let named = self.elsewhere(if is_stream { "stream" } else { "snapshot" }, &named);
        Some(NamedAddress {
            url,
            elsewhere: Some(named),
        })
    }

    fn at_own_host(&mut self, named: &Url, what: &'static str) -> Url {
        let own = &self.report.address;
        let is_downgrade = own.scheme() == "https" && named.scheme() != "https";
        if self.client.is_own_host(http::host(named)) && !is_downgrade {
            return named.clone();
        }
        let mut url = own.clone();
        url.set_path(named.path());
        url.set_query(named.query());
        if !self.client.is_own_host(http::host(named)) {
            self.elsewhere(what, http::host(named));
        }
        url
    }

    fn elsewhere(&mut self, what: &'static str, host: &str) -> String {
        let host = printable(cut(host, 128));
        let problem = DeviceProblem::Elsewhere {
            what,
            host: host.clone(),
        };
        if !self.report.problems.contains(&problem) && self.report.problems.len() < MAX_PROFILES {
            self.report.problems.push(problem);
        }
        host
    }

    /// Notes an error; passes on those after which nothing more is asked.
    fn failed(&mut self, call: &'static str, error: OnvifError) -> Result<(), OnvifError> {
        if is_final(&error) {
            return Err(error);
        }
        if self.report.problems.len() < MAX_PROFILES {
            let error = error.to_string();
            self.report.problems.push(DeviceProblem::CallFailed { call, error });
        }
        Ok(())
    }

    fn in_time(&self, call: &'static str) -> Result<(), OnvifError> {
        if Instant::now() < self.end {
            return Ok(());
        }
        Err(OnvifError::TimeOver {
            host: name(&self.report.address),
            call,
        })
    }
}
