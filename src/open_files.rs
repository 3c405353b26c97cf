//! The limit of open files of this process: raised as far as the system allows, and compared with what the cameras need.
//!
//! Distributions start services with a soft limit of 1024, which a box with many cameras exceeds. The failures that follow look
//! unrelated: a decoder that is "not installed", a camera that is "unreachable".

use gridwatch_config::Camera;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Files of a daemon without cameras: store, ledger, broker, libraries, metrics and their clients. 31 were open in `/proc/PID/fd` of one
/// with the demo's configuration and no broker.
const BASE: u64 = 80;
/// Files of a look worker: the socket of its decode worker, and for moments those of its start and of its buffers.
const PER_WORKER: u64 = 16;
/// Files of a camera received by our own receiver: a connection, two more sockets over UDP, and as many while it reconnects.
const PER_RTSP_CAMERA: u64 = 6;
/// Files of a camera received through GStreamer: 5 with a `file:` URL; network sources have sockets and queues besides.
const PER_GST_CAMERA: u64 = 16;

/// The limit of open files, and what the configuration needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenFiles {
    /// `None`: unlimited.
    limit: Option<u64>,
    needed: u64,
}

impl OpenFiles {
    /// Raises the soft limit to the hard one, and returns the limit that holds from now on.
    pub(crate) fn raise(cameras: &[Camera], workers: usize) -> Self {
        let mut limits = getrlimit(Resource::Nofile);
        if limits.current != limits.maximum {
            let before = limits.current;
            limits.current = limits.maximum;
            // A limit that may not be raised is reported by `shortage` if it is too low.
            if setrlimit(Resource::Nofile, limits).is_err() {
                limits.current = before;
            }
        }
        let of_camera = |camera: &Camera| match camera.url.scheme() {
            "rtsp" => PER_RTSP_CAMERA,
            _ => PER_GST_CAMERA,
        };
        Self {
            limit: limits.current,
            needed: BASE + PER_WORKER * workers as u64 + cameras.iter().map(of_camera).sum::<u64>(),
        }
    }

    /// The limit and the need, for people.
    pub(crate) fn summary(&self) -> String {
        let limit = self.limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
        format!("{limit} allowed, about {} needed", self.needed)
    }

    /// What is wrong and what to do, if the limit is lower than the need.
    pub(crate) fn shortage(&self) -> Option<String> {
        self.limit.filter(|limit| *limit < self.needed).map(|limit| {
            format!(
                "this process may open {limit} files, and these cameras need about {}; {REMEDY}",
                self.needed
            )
        })
    }
}

pub(crate) const REMEDY: &str = "set LimitNOFILE=65536 in the service's unit, or raise the hard limit (ulimit -Hn, \
    /etc/security/limits.conf)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_the_need_is_a_shortage() {
        let files = |limit| OpenFiles { limit, needed: 300 };
        assert_eq!((files(Some(300)).shortage(), files(None).shortage()), (None, None));
        assert_eq!(files(None).summary(), "unlimited allowed, about 300 needed");
        let reason = files(Some(299)).shortage().unwrap();
        assert!(
            reason.contains("299 files") && reason.contains("300") && reason.contains("LimitNOFILE"),
            "{reason}"
        );
    }
}
