//! What a process that reads a source may do beyond computing: read libraries, certificates and its file, and connect to its camera.
//!
//! GStreamer finds out only from the stream which plugins it needs, so libraries can be loaded: files of the system's library folders can be mapped as code, and
//! no other memory can become code.

use std::{collections::BTreeMap, path::PathBuf};

use landlock::{AccessFs, AccessNet, NetPort, RulesetCreated, RulesetCreatedAttr, RulesetError, path_beneath_rules};
use seccompiler::{BackendError, SeccompRule};
use url::{Host, Url};

use super::cage::{bits, equal, is};
use crate::source_pipeline::SourceSetup;

/// Libraries, certificates, and what name resolution reads.
const FILES: [&str; 23] = [
    "/dev/null",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/gnutls",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/share/p11-kit",
];
/// Where GStreamer may find more plugins, and the loader more libraries.
const FOLDERS: [&str; 5] = [
    "GST_PLUGIN_PATH",
    "GST_PLUGIN_PATH_1_0",
    "GST_PLUGIN_SYSTEM_PATH",
    "GST_PLUGIN_SYSTEM_PATH_1_0",
    "LD_LIBRARY_PATH",
];
/// Schemes that GStreamer's sources speak over TCP alone, and the ports that a URL without one means.
const TCP_SCHEMES: [(&str, u16); 4] = [("http", 80), ("https", 443), ("rtmp", 1935), ("rtmps", 443)];
/// Schemes that use datagrams, too.
const RTSP_SCHEMES: [(&str, u16); 2] = [("rtsp", 554), ("rtsps", 322)];
/// Answers of name servers that do not fit a datagram.
const DNS: u16 = 53;

/// What one source needs.
pub(super) struct SourceAccess {
    files: Vec<PathBuf>,
    /// TCP ports that it may connect to; `None` without a network.
    ports: Option<Vec<u16>>,
    datagrams: bool,
}

impl SourceAccess {
    pub(super) fn of(setup: &SourceSetup) -> Self {
        let mut files: Vec<PathBuf> = FILES.iter().map(PathBuf::from).collect();
        for folders in FOLDERS.iter().filter_map(std::env::var_os) {
            files.extend(std::env::split_paths(&folders).filter(|path| path.is_absolute()));
        }
        files.extend(setup.ca_file.clone());
        let Ok(url) = Url::parse(&setup.url) else {
            return Self {
                files,
                ports: None,
                datagrams: false,
            };
        };
        if let Ok(file) = url.to_file_path()
            && setup.is_file()
        {
            files.push(file);
            return Self {
                files,
                ports: None,
                datagrams: false,
            };
        }
        let default = |schemes: &[(&str, u16)]| schemes.iter().find(|(name, _)| *name == url.scheme()).map(|(_, p)| *p);
        let tcp_only = default(&TCP_SCHEMES);
        // Of schemes that are not special, the URL library takes an address for a name.
        let is_named = match url.host() {
            Some(Host::Domain(name)) => name.parse::<std::net::Ipv4Addr>().is_err(),
            _ => false,
        };
        let mut ports: Vec<u16> = url
            .port()
            .or(tcp_only)
            .or_else(|| default(&RTSP_SCHEMES))
            .into_iter()
            .collect();
        if is_named {
            ports.push(DNS);
        }
        Self {
            files,
            ports: Some(ports),
            datagrams: is_named || tcp_only.is_none(),
        }
    }

    /// Adds the rules of Landlock. A file that does not exist is left out.
    pub(super) fn allow(&self, ruleset: RulesetCreated) -> Result<RulesetCreated, RulesetError> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let ports = self.ports.iter().flatten();
        ruleset
            .add_rules(path_beneath_rules(&self.files, read))?
            .add_rules(ports.map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp))))
    }

    /// Adds the system calls.
    pub(super) fn allow_calls(&self, allowed: &mut BTreeMap<i64, Vec<SeccompRule>>) -> Result<(), BackendError> {
        allowed.extend(FILE_CALLS.iter().map(|call| (*call, Vec::new())));
        // Code from files, and never writable. Landlock leaves those of the library folders.
        let exec = libc::PROT_EXEC as u64;
        let code = SeccompRule::new(vec![
            bits(2, exec | libc::PROT_WRITE as u64, exec)?,
            bits(3, libc::MAP_ANONYMOUS as u64, 0)?,
        ])?;
        allowed.entry(libc::SYS_mmap).or_default().push(code);
        let queries = [libc::FIONREAD, libc::FIONBIO, libc::TCGETS];
        let queries = queries.iter().map(|query| equal(1, *query));
        allowed.insert(libc::SYS_ioctl, queries.collect::<Result<_, _>>()?);
        if self.ports.is_none() {
            return Ok(());
        }
        allowed.extend(NETWORK_CALLS.iter().map(|call| (*call, Vec::new())));
        let mut kinds = vec![libc::SOCK_STREAM];
        if self.datagrams {
            kinds.push(libc::SOCK_DGRAM);
        }
        let mut sockets = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            for kind in &kinds {
                // Without the flags for blocking and closing.
                sockets.push(SeccompRule::new(vec![
                    is(0, family as u64)?,
                    bits(1, 0xf, *kind as u64)?,
                ])?);
            }
        }
        allowed.insert(libc::SYS_socket, sockets);
        Ok(())
    }
}

/// Opening and reading files, within what Landlock leaves.
const FILE_CALLS: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fstatfs,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pselect6,
    libc::SYS_readlinkat,
    libc::SYS_statfs,
    libc::SYS_statx,
];

/// Sockets, of the families and kinds that the filter allows.
const NETWORK_CALLS: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
];
