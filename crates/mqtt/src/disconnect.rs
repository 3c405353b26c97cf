//! Why a connection ended.

use std::{error::Error, fmt, io};

use crate::{ConnectOptions, Protocol, Wording};

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// The reason as a sentence, with likely causes and remedies; contains no credentials.
    pub message: String,
    /// What to conclude from it.
    pub cause: DisconnectCause,
}

/// Whether a message may have caused a disconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisconnectCause {
    /// Not caused by a message.
    Unrelated,
    /// The peer closed the connection or stopped responding without giving a reason. Brokers do that over a message they
    /// reject (with MQTT 3.1.1 they have no other way), and so does every failing network.
    NoReason,
    /// An outgoing message, according to the broker or the client; the reason as a sentence.
    Outgoing(String),
    /// The broker lacks something that this client asked for.
    Unsuitable(BrokerFeature),
    /// Another client connected with this client id.
    TakenOver,
}

/// What a broker may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerFeature {
    /// Messages of QoS 1.
    Qos1,
    /// Retained messages.
    Retain,
}

impl fmt::Display for BrokerFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qos1 => "QoS 1",
            Self::Retain => "retained messages",
        })
    }
}

impl Disconnect {
    /// The broker did not answer in time.
    pub fn timed_out() -> Self {
        Self::unrelated("the broker did not answer in time")
    }

    /// The broker closed the connection without giving a reason.
    pub fn without_reason() -> Self {
        Self {
            message: "the broker closed the connection without giving a reason".into(),
            cause: DisconnectCause::NoReason,
        }
    }

    pub(crate) fn unrelated(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            cause: DisconnectCause::Unrelated,
        }
    }

    /// The broker refused the connection with this CONNACK code.
    pub(crate) fn refused(code: impl fmt::Debug, wording: &Wording) -> Self {
        let code = format!("{code:?}");
        let Wording {
            machine,
            client_id,
            url,
            credentials,
            ..
        } = wording;
        let remedy = match code.as_str() {
            "BadUserNamePassword" | "NotAuthorized" => {
                format!(": check {credentials}, and what the broker's ACL allows this user")
            }
            "BadClientId" | "ClientIdentifierNotValid" => format!(": allow the client id, which is {client_id}"),
            "UseAnotherServer" | "ServerMoved" => format!(": set {url} to the server that replaces it"),
            "Banned" => format!(": have this {machine} removed from its list of banned clients"),
            _ => String::new(),
        };
        Self::unrelated(format!("the broker refused the connection ({code}){remedy}"))
    }

    /// The broker supports the other MQTT version only.
    pub(crate) fn unsupported_version(protocol: Protocol, wording: &Wording) -> Self {
        let (version, other) = match protocol {
            Protocol::V5 => ("5", Protocol::V311),
            Protocol::V311 => ("3.1.1", Protocol::V5),
        };
        Self::unrelated(format!(
            "the broker does not support MQTT {version}; set {} = \"{}\"",
            wording.protocol,
            other.as_str()
        ))
    }

    /// The broker lacks something that this client asked for.
    pub(crate) fn unsuitable(lacking: BrokerFeature) -> Self {
        Self {
            message: format!("the broker does not support {lacking}"),
            cause: DisconnectCause::Unsuitable(lacking),
        }
    }

    /// With likely causes, if the connection ended before CONNACK without a reason.
    pub(crate) fn before_connack(mut self, likely_causes: &str) -> Self {
        if self.cause == DisconnectCause::NoReason {
            self.message += likely_causes;
        }
        self
    }
}

/// Why a broker may close such a connection before CONNACK, completing the sentence.
pub(crate) fn likely_causes(options: &ConnectOptions) -> String {
    let Wording { client, protocol, .. } = options.wording;
    let tls = match &options.tls {
        Some(tls) if !tls.has_client_certificate() => format!("does it require a client certificate ({client})?"),
        Some(_) => format!("does it trust the CA of the client certificate ({client})?"),
        None => "does this port expect TLS (mqtts://)?".into(),
    };
    let version = match options.protocol {
        Protocol::V5 => format!("Does it support MQTT 5 (otherwise set {protocol} = \"3.1.1\")?"),
        Protocol::V311 => "Does it support QoS 1 and retained messages?".into(),
    };
    format!(", before CONNACK: {tls} {version}")
}

/// Classifies a connection error that is neither a TLS nor an MQTT error. The clients wrap I/O errors differently on read
/// and on write, so the whole source chain is searched.
pub(crate) fn from_io_cause(error: &(dyn Error + 'static)) -> Disconnect {
    let causes = std::iter::successors(Some(error), |e| (*e).source());
    match causes.filter_map(|e| e.downcast_ref::<io::Error>()).next() {
        Some(e) => match e.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Disconnect::without_reason(),
            _ => Disconnect::unrelated(e.to_string()),
        },
        None => Disconnect::unrelated(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{ServerTrust, SessionMode, Tls, TlsClientConfig, options::WORDING};

    fn causes(protocol: Protocol, tls: Option<TlsClientConfig>) -> String {
        let options = ConnectOptions {
            host: "broker.example".into(),
            port: 8883,
            protocol,
            tls,
            login: None,
            client_id: "gridwatch-box-7".into(),
            keep_alive: Duration::from_secs(30),
            session: SessionMode::Clean,
            will: None,
            max_unacknowledged: 1,
            receive_maximum: 1,
            max_incoming: 1024,
            wording: &WORDING,
        };
        Disconnect::without_reason()
            .before_connack(&likely_causes(&options))
            .message
    }

    #[test]
    fn a_connection_closed_before_connack_names_what_may_be_wrong() {
        assert_eq!(
            causes(Protocol::V5, None),
            "the broker closed the connection without giving a reason, before CONNACK: does this port expect TLS (mqtts://)? Does it \
             support MQTT 5 (otherwise set broker.protocol = \"3.1.1\")?"
        );
        let pinned = Tls {
            trust: ServerTrust::Pin("0".repeat(64)),
            client: None,
        };
        assert_eq!(
            causes(
                Protocol::V311,
                Some(TlsClientConfig::load(&pinned, &WORDING).expect("reads no file"))
            ),
            "the broker closed the connection without giving a reason, before CONNACK: does it require a client certificate \
             (broker.client)? Does it support QoS 1 and retained messages?"
        );
        let unrelated = Disconnect::timed_out();
        assert_eq!(unrelated.clone().before_connack("!"), unrelated);
    }

    #[test]
    fn a_refusal_names_the_remedy_in_the_callers_words() {
        use rumqttc::ConnectReturnCode::{Banned, ClientIdentifierNotValid, NotAuthorized, ServerBusy, ServerMoved};
        for (code, remedy) in [
            (
                NotAuthorized,
                ": check broker.credentials, and what the broker's ACL allows this user",
            ),
            (
                ClientIdentifierNotValid,
                ": allow the client id, which is `gridwatch-` and node.id",
            ),
            (ServerMoved, ": set broker.url to the server that replaces it"),
            (Banned, ": have this box removed from its list of banned clients"),
            (ServerBusy, ""),
        ] {
            assert_eq!(
                Disconnect::refused(code, &WORDING).message,
                format!("the broker refused the connection ({code:?}){remedy}")
            );
        }
        assert_eq!(
            Disconnect::unsupported_version(Protocol::V5, &WORDING).message,
            "the broker does not support MQTT 5; set broker.protocol = \"3.1.1\""
        );
    }
}
