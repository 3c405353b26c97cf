//! Why a device cannot be asked.

use gridwatch_base::error::Class;

use super::PORTS;

/// Why a device cannot be asked. No text contains credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnvifError {
    /// Not an address of a device service.
    #[error(
        "not the address of a device: {0}; use a host name or IP address, or http://HOST:PORT/onvif/device_service"
    )]
    Address(String),
    /// No connection, or no answer.
    #[error("{host}: {what}; check that it is on, and that ONVIF is enabled in its menu")]
    Unreachable {
        /// Host and port.
        host: String,
        /// The cause.
        what: String,
    },
    /// None of the usual ports answered.
    #[error("{host} has no ONVIF service on the ports {}; enable ONVIF in its menu, or name the port", PORTS.map(|p| p.to_string()).join(", "))]
    NotFound {
        /// The host.
        host: String,
    },
    /// The answer is not one of ONVIF.
    #[error("{host} does not answer as an ONVIF device: {what}")]
    NotOnvif {
        /// Host and port.
        host: String,
        /// The fault.
        what: String,
    },
    /// Redirects are not followed, as they could lead the login astray.
    #[error("{host} redirects to {to}; name that address if it is the camera's")]
    Redirected {
        /// Host and port.
        host: String,
        /// The target.
        to: String,
    },
    /// The device refuses the call.
    #[error("{host} refuses {call}: {reason}")]
    Fault {
        /// Host and port.
        host: String,
        /// The call.
        call: &'static str,
        /// What the device says.
        reason: String,
    },
    /// The device asks for a login.
    #[error("{host} asks for a user and a password")]
    LoginRequired {
        /// Host and port.
        host: String,
    },
    /// User or password are wrong.
    #[error(
        "{host} refuses user or password (tried {tried}); many cameras keep users of their own for ONVIF: add one in its menu, \
         or correct the password"
    )]
    LoginRefused {
        /// Host and port.
        host: String,
        /// What was tried.
        tried: String,
    },
    /// The device wants the password itself.
    #[error(
        "{host} asks for the password in the clear (Basic), which was not sent; enable Digest in its menu, or allow it"
    )]
    PasswordInClear {
        /// Host and port.
        host: String,
    },
    /// The time for all calls is over.
    #[error("{host}: not asked {call}: the time is over")]
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
}
