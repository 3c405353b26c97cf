//! The identity of an installation, which tells two boxes apart that were given one node id, as by a cloned disk.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{digest::sha256_hex, disk, file};

/// Random number of this installation, 32 hex digits, in the state directory.
const SEED_FILE: &str = "installation";

/// Exists while an operator wants this box to use its node id although another one does.
const TAKE_OVER_FILE: &str = "take-over";

/// When this installation came online lately, one time a line, oldest first.
const ONLINE_FILE: &str = "online-since";

/// Number of times in [`ONLINE_FILE`]; the broker retains one of the newest.
const ONLINE_TIMES: usize = 16;

/// Stands for the id of an installation that has none before its first start.
pub const NOT_STARTED: &str = "not-started-yet";

/// Identities of a machine are short; a longer file is something else.
const MAX_FACT: u64 = 256;

/// Files in /sys claim the size of a page.
const MAX_FACT_FILE: u64 = 1 << 16;

/// The identity of this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    id: String,
    state_dir: PathBuf,
}

impl Installation {
    /// Reads the identity of the installation in `state_dir`; creates its random part if it is missing.
    ///
    /// # Errors
    /// The state directory cannot be read or written.
    pub fn of(state_dir: &Path) -> io::Result<Self> {
        Self::on(Path::new("/"), state_dir)
    }

    /// [`Installation::of`], on the machine whose file system is at `root`.
    fn on(root: &Path, state_dir: &Path) -> io::Result<Self> {
        let file = state_dir.join(SEED_FILE);
        let seed = match read_fact(&file) {
            Some(seed) => seed,
            None => {
                let mut random = [0; 32];
                File::open("/dev/urandom")?.read_exact(&mut random)?;
                let seed = sha256_hex(&random)[..32].to_owned();
                disk::write_private(&file, seed.as_bytes())?;
                seed
            }
        };
        Ok(Self {
            id: id(root, &seed),
            state_dir: state_dir.into(),
        })
    }

    /// Like [`Installation::of`], but writes nothing: an installation that has not started yet gets the id [`NOT_STARTED`].
    ///
    /// # Errors
    /// The identity is there, or may be, but this user cannot read it.
    pub fn without_writing(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(SEED_FILE);
        match file::open(&path, MAX_FACT_FILE) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let seed = read_fact(&path);
        Ok(Self {
            id: seed.map_or_else(|| NOT_STARTED.to_owned(), |seed| id(Path::new("/"), &seed)),
            state_dir: state_dir.into(),
        })
    }

    /// 32 lower-case hex digits, the same after every restart of this box and different on every other machine.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When this state directory's daemon came online lately, as it was about to publish it; `None` if that is not known.
    pub fn online_times(&self) -> Option<Vec<String>> {
        let text = file::read_text(&self.state_dir.join(ONLINE_FILE), MAX_FACT_FILE).ok()?;
        Some(text.lines().map(str::to_owned).collect())
    }

    /// Notes that this daemon is about to publish that it is online since `time`.
    pub fn note_online(&self, time: &str) {
        let path = self.state_dir.join(ONLINE_FILE);
        let mut times = self.online_times().unwrap_or_default();
        times.push(time.to_owned());
        let newest = &times[times.len().saturating_sub(ONLINE_TIMES)..];
        if disk::write_private(&path, newest.join("\n").as_bytes()).is_err() {
            // A list without this time would make it look like another daemon's.
            let _ = fs::remove_file(path);
        }
    }

    /// Whether an operator wants this box to use its node id although another one does.
    pub fn has_take_over_request(&self) -> bool {
        self.state_dir.join(TAKE_OVER_FILE).exists()
    }

    /// Ends the request.
    pub fn end_take_over_request(&self) {
        // A request that stays is repeated at the next connection, which is harmless.
        let _ = fs::remove_file(self.state_dir.join(TAKE_OVER_FILE));
    }
}

/// The id of an installation with this random part on the machine whose file system is at `root`.
fn id(root: &Path, seed: &str) -> String {
    let facts = machine_facts(root).join("\n");
    // A hash, because a machine id is confidential (machine-id(5)).
    let mut id = sha256_hex(format!("gridwatch installation\n{seed}\n{facts}").as_bytes());
    id.truncate(32);
    id
}

/// Whether `state_dir` has the identity of an installation.
pub fn is_identified(state_dir: &Path) -> bool {
    let seed = read_fact(&state_dir.join(SEED_FILE));
    seed.is_some_and(|seed| seed.len() == 32 && seed.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Leaves the request of an operator that the box with this state directory uses its node id although another one does.
///
/// # Errors
/// The file cannot be written.
pub fn request_take_over(state_dir: &Path) -> io::Result<()> {
    disk::write_private(&state_dir.join(TAKE_OVER_FILE), b"")
}

/// What differs between machines even if a disk was cloned: the serial number of the board and the addresses of the network
/// interfaces that are built in. Files that only root may read are left out, so that the user does not matter.
fn machine_facts(root: &Path) -> Vec<String> {
    let files = ["etc/machine-id", "sys/firmware/devicetree/base/serial-number"];
    let mut facts: Vec<String> = files.iter().filter_map(|file| read_fact(&root.join(file))).collect();
    let interfaces = fs::read_dir(root.join("sys/class/net")).into_iter().flatten().flatten();
    let mut addresses: Vec<String> = interfaces
        .filter(|entry| {
            // Virtual interfaces have no device, and one on USB may be plugged into another box.
            fs::canonicalize(entry.path().join("device")).is_ok_and(|device| !device.to_string_lossy().contains("/usb"))
        })
        .filter_map(|entry| read_fact(&entry.path().join("address")))
        .collect();
    addresses.sort();
    facts.extend(addresses);
    facts
}

/// The trimmed text of a short file; `None` if it is missing or empty.
fn read_fact(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    file::open(path, MAX_FACT_FILE)
        .ok()?
        .take(MAX_FACT)
        .read_to_end(&mut bytes)
        .ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file system of a machine with this machine id and these interfaces: name, address, and the path of the device.
    fn machine(id: &str, interfaces: &[(&str, &str, Option<&str>)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/machine-id"), format!("{id}\n")).unwrap();
        for (name, address, device) in interfaces {
            let interface = root.path().join("sys/class/net").join(name);
            fs::create_dir_all(&interface).unwrap();
            fs::write(interface.join("address"), format!("{address}\n")).unwrap();
            if let Some(device) = device {
                fs::create_dir_all(root.path().join(device)).unwrap();
                std::os::unix::fs::symlink(root.path().join(device), interface.join("device")).unwrap();
            }
        }
        root
    }

    const BUILT_IN: Option<&str> = Some("devices/pci/eth0");

    #[test]
    fn it_stays_the_same_and_does_not_show_what_it_is_made_of() {
        let (root, state) = (machine("cafe", &[]), tempfile::tempdir().unwrap());
        let id = Installation::on(root.path(), state.path()).unwrap().id;
        assert_eq!(Installation::on(root.path(), state.path()).unwrap().id, id);
        assert!(id.len() == 32 && !id.contains("cafe"));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Installation::on(root.path(), other.path()).unwrap().id, id);
    }

    #[test]
    fn it_is_read_without_being_created() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Installation::without_writing(state.path()).unwrap().id(), NOT_STARTED);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
        let created = Installation::of(state.path()).unwrap();
        assert_eq!(Installation::without_writing(state.path()).unwrap().id(), created.id());
        // Anything but a missing file may be an identity that another user can read.
        let below_a_file = state.path().join(SEED_FILE);
        assert!(Installation::without_writing(&below_a_file).is_err());
    }

    #[test]
    fn a_cloned_disk_in_another_machine_is_another_installation() {
        let state = tempfile::tempdir().unwrap();
        let id = |address| {
            let root = machine("cafe", &[("eth0", address, BUILT_IN)]);
            Installation::on(root.path(), state.path()).unwrap().id
        };
        assert_ne!(id("02:00:00:00:00:01"), id("02:00:00:00:00:02"));
        assert_eq!(id("02:00:00:00:00:01"), id("02:00:00:00:00:01"));
    }

    #[test]
    fn virtual_and_usb_interfaces_do_not_matter() {
        let state = tempfile::tempdir().unwrap();
        let id = |interfaces: &[_]| {
            Installation::on(machine("cafe", interfaces).path(), state.path())
                .unwrap()
                .id
        };
        let built_in = ("eth0", "02:00:00:00:00:01", BUILT_IN);
        let virtual_one = ("docker0", "02:00:00:00:00:07", None);
        let on_usb = ("usb0", "02:00:00:00:00:08", Some("devices/pci/usb1/1-1"));
        assert_eq!(id(&[built_in]), id(&[built_in, virtual_one, on_usb]));
    }

    #[test]
    fn a_request_to_take_over_stays_until_it_is_ended() {
        let state = tempfile::tempdir().unwrap();
        let installation = Installation::of(state.path()).unwrap();
        assert!(!installation.has_take_over_request());
        request_take_over(state.path()).unwrap();
        assert!(installation.has_take_over_request());
        installation.end_take_over_request();
        assert!(!installation.has_take_over_request());
    }
}
