//! Why a device cannot be asked.

use std::fmt;

use gridwatch_base::{error::Class, message, message::Message};

use super::PORTS;

/// Why a device cannot be asked. No text contains credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnvifError {
    /// Not an address of a device service.
    Address(String),
    /// No connection, or no answer.
    Unreachable {
        /// Host and port.
        host: String,
        /// The cause.
        what: String,
    },
    /// None of the usual ports answered.
    NotFound {
        /// The host.
        host: String,
    },
    /// The answer is not one of ONVIF.
    NotOnvif {
        /// Host and port.
        host: String,
        /// The fault.
        what: String,
    },
    /// Redirects are not followed, as they could lead the login astray.
    Redirected {
        /// Host and port.
        host: String,
        /// The target.
        to: String,
    },
    /// The device refuses the call.
    Fault {
        /// Host and port.
        host: String,
        /// The call.
        call: &'static str,
        /// What the device says.
        reason: String,
    },
    /// The device asks for a login.
    LoginRequired {
        /// Host and port.
        host: String,
    },
    /// User or password are wrong.
    LoginRefused {
        /// Host and port.
        host: String,
        /// What was tried.
        tried: String,
    },
    /// The device wants the password itself.
    PasswordInClear {
        /// Host and port.
        host: String,
    },
    /// The time for all calls is over.
    TimeOver {
        /// Host and port.
        host: String,
        /// The call that was left out.
        call: &'static str,
    },
}

impl OnvifError {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Address(_)
            | Self::Redirected { .. }
            | Self::LoginRequired { .. }
            | Self::LoginRefused { .. }
            | Self::PasswordInClear { .. } => Class::Config,
            Self::Unreachable { .. } | Self::NotFound { .. } | Self::TimeOver { .. } => Class::Transient,
            Self::NotOnvif { .. } | Self::Fault { .. } => Class::Data,
        }
    }

    /// What happened and what to do, for a person.
    pub fn message(&self) -> Message {
        match self {
            Self::Address(what) => message!(
                "not the address of a device: {what}; use a host name or IP address, or http://HOST:PORT/onvif/device_service",
                what
            ),
            Self::Unreachable { host, what } => message!(
                "{host}: {what}; check that it is on, and that ONVIF is enabled in its menu",
                host,
                what
            ),
            Self::NotFound { host } => message!(
                "{host} has no ONVIF service on the ports {ports}; enable ONVIF in its menu, or name the port",
                host,
                ports = PORTS.map(|port| port.to_string()).join(", ")
            ),
            Self::NotOnvif { host, what } => {
                message!("{host} does not answer as an ONVIF device: {what}", host, what)
            }
            Self::Redirected { host, to } => message!(
                "{host} redirects to {to}; name that address if it is the camera's",
                host,
                to
            ),
            Self::Fault { host, call, reason } => {
                message!("{host} refuses {call}: {reason}", host, call = *call, reason)
            }
            Self::LoginRequired { host } => message!("{host} asks for a user and a password", host),
            Self::LoginRefused { host, tried } => message!(
                "{host} refuses user or password (tried {tried}); many cameras keep users of their own for ONVIF: add one in its menu, or correct the password",
                host,
                tried
            ),
            Self::PasswordInClear { host } => message!(
                "{host} asks for the password in the clear (Basic), which was not sent; enable Digest in its menu, or allow it",
                host
            ),
            Self::TimeOver { host, call } => {
                message!("{host}: not asked {call}: the time is over", host, call = *call)
            }
        }
    }
}

impl fmt::Display for OnvifError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

impl std::error::Error for OnvifError {}
