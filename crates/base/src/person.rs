//! Who runs this process, for the audit log: the user that the kernel knows, and the one who logged in.
//!
//! Environment variables are not evidence: anyone can set `SUDO_USER`. What counts is the real user id, the login user id, which PAM sets at
//! login and which survives `sudo` and `su` (proc(5), `/proc/pid/loginuid`), and, for root, the processes that started this one.

use std::{ffi::OsString, fs, path::Path};

use serde::{Deserialize, Serialize};

use super::file;

/// `/proc/self/loginuid` of a process that no login started, such as a service.
const NO_LOGIN: u32 = u32::MAX;

/// Maximum size of the user database in bytes: ten thousand users.
const MAX_USERS: u64 = 1 << 20;

/// Processes between this one and `sudo`: a shell or two, and sudo's monitor.
const MAX_ANCESTORS: usize = 16;

/// The person behind a process, as far as the kernel tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The real user id.
    pub uid: u32,
    /// Its name in `/etc/passwd`; absent for users of a directory service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user id of the login, which `sudo` and `su` do not change; absent for services and where PAM does not set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_user: Option<String>,
    /// True in a user namespace. Its creator chose the user ids, so no names are recorded for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_namespace: bool,
    /// The user who ran `sudo`: claimed by `SUDO_USER`, and recorded only for root below a `sudo` that this user started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_user: Option<String>,
}

impl Person {
    /// The person behind this process.
    pub fn current() -> Self {
        Self::find(Path::new("/"), rustix::process::getuid().as_raw(), &|name| {
            std::env::var_os(name)
        })
    }

    /// The person behind the process with the real user id `uid`, on a machine whose file system is at `root`.
    fn find(root: &Path, uid: u32, environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let users = file::read(&root.join("etc/passwd"), MAX_USERS).unwrap_or_default();
        let users = String::from_utf8_lossy(&users);
        if is_in_namespace(root) {
            return Self {
                uid,
                user: None,
                login_uid: None,
                login_user: None,
                in_namespace: true,
                sudo_user: None,
            };
        }
        let login_uid = fs::read_to_string(root.join("proc/self/loginuid"));
        let login_uid = login_uid.ok().and_then(|id| id.trim().parse().ok());
        let login_uid = login_uid.filter(|id| *id != NO_LOGIN);
        let sudo_uid = match uid {
            0 => sudo_caller(root),
            // Another user could start a program called sudo.
            _ => None,
        };
        let claimed = |name: &str| environment(name).and_then(|value| value.into_string().ok());
        let sudo_user = sudo_uid
            .filter(|id| claimed("SUDO_UID").is_some_and(|claim| claim == id.to_string()))
            .map(|id| name_of(&users, id).unwrap_or_else(|| format!("uid {id}")));
        Self {
            uid,
            user: name_of(&users, uid),
            login_uid,
            login_user: login_uid.and_then(|id| name_of(&users, id)),
            in_namespace: false,
            sudo_user,
        }
    }

    /// Whether `who`, a user name or id, is this person under any of their names.
    pub fn is(&self, who: &str) -> bool {
        let names = [&self.user, &self.login_user, &self.sudo_user];
        names.into_iter().flatten().any(|name| name == who)
            || who
                .parse()
                .is_ok_and(|id: u32| id == self.uid || Some(id) == self.login_uid)
    }

    /// One line for a table: the login first, which names a person where the user is a shared account.
    pub fn describe(&self) -> String {
        let named = |name: &Option<String>, id: u32| name.clone().unwrap_or_else(|| format!("uid {id}"));
        if self.in_namespace {
            return format!("uid {} of a user namespace", self.uid);
        }
        let user = named(&self.user, self.uid);
        let login = self.login_uid.map(|id| named(&self.login_user, id));
        match login.or_else(|| self.sudo_user.clone()) {
            Some(login) if login != user => format!("{login} as {user}"),
            _ => user,
        }
    }
}

/// Whether user ids are not those of the machine (user_namespaces(7)): anyone can make a namespace in which they have any id.
fn is_in_namespace(root: &Path) -> bool {
    let map = fs::read_to_string(root.join("proc/self/uid_map")).unwrap_or_default();
    // Absent on kernels without namespaces.
    !map.is_empty() && map.split_ascii_whitespace().ne(["0", "0", "4294967295"])
}

/// The name of a user in `/etc/passwd` (passwd(5)).
fn name_of(users: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(&uid)).then(|| name.to_owned())
    })
}

/// The user id of the process that started `sudo`, if `sudo` started this process; `None` otherwise, or if that process has ended.
fn sudo_caller(root: &Path) -> Option<u32> {
    let mut process = read_process(root, "self")?;
    let mut is_below_sudo = false;
    for _ in 0..MAX_ANCESTORS {
        let parent = process.parent;
        if parent <= 1 {
            return None;
        }
        process = read_process(root, &parent.to_string())?;
        // Only root can read whose program a process of root runs, and only a process of root is the real sudo.
        let program = fs::read_link(root.join(format!("proc/{parent}/exe"))).ok()?;
        let is_sudo = program
            .file_name()
            .is_some_and(|name| name == "sudo" || name == "sudo-rs")
            && process.uid == 0;
        match (is_sudo, is_below_sudo) {
            (true, _) => is_below_sudo = true,
            // sudo's monitor is a sudo, too; the first other process is the caller's.
            (false, true) => return Some(process.uid),
            (false, false) => {}
        }
    }
    None
}

struct Process {
    parent: u32,
    /// The real user id.
    uid: u32,
}

fn read_process(root: &Path, id: &str) -> Option<Process> {
    let status = fs::read_to_string(root.join("proc").join(id).join("status")).ok()?;
    let field = |name: &str| -> Option<u32> {
        let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_ascii_whitespace().next()?.parse().ok()
    };
    Some(Process {
        parent: field("PPid:")?,
        uid: field("Uid:")?,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A machine with the users root, wang and li, and processes: id, parent, user id, program.
    fn machine(login_uid: &str, processes: &[(&str, u32, u32, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        let users = "root:x:0:0::/root:/bin/sh\nwang:x:1000:1000::/home/wang:/bin/sh\nli:x:1001:1001::/:/bin/sh\n";
        fs::write(root.path().join("etc/passwd"), users).unwrap();
        for (id, parent, uid, program) in processes {
            let dir = root.path().join("proc").join(id);
            fs::create_dir_all(&dir).unwrap();
            let status = format!("Name:\tx\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n");
            fs::write(dir.join("status"), status).unwrap();
            symlink(program, dir.join("exe")).unwrap();
        }
        fs::write(root.path().join("proc/self/loginuid"), login_uid).unwrap();
        root
    }

    fn claims(uid: &'static str, user: &'static str) -> impl Fn(&str) -> Option<OsString> {
        move |name| match name {
            "SUDO_UID" => Some(uid.into()),
            "SUDO_USER" => Some(user.into()),
            _ => None,
        }
    }

    const BELOW_SUDO: [(&str, u32, u32, &str); 4] = [
        ("self", 30, 0, "/usr/bin/gridwatch"),
        ("30", 20, 0, "/usr/bin/sudo"),
        ("20", 10, 0, "/usr/bin/sudo"),
        ("10", 1, 1000, "/usr/bin/bash"),
    ];

    #[test]
    fn who_called_sudo_is_found_in_the_processes_and_not_in_the_environment() {
        let root = machine("4294967295", &BELOW_SUDO);
        let person = Person::find(root.path(), 0, &claims("1000", "wang"));
        assert_eq!(person.sudo_user.as_deref(), Some("wang"));
        assert_eq!((person.user.as_deref(), person.login_uid), (Some("root"), None));
        assert_eq!(person.describe(), "wang as root");
        // Another name for the same id, and another id: the first is not used, the second does not fit.
        let person = Person::find(root.path(), 0, &claims("1000", "li"));
        assert_eq!(person.sudo_user.as_deref(), Some("wang"));
        assert_eq!(Person::find(root.path(), 0, &claims("1001", "li")).sudo_user, None);
    }

    #[test]
    fn a_forged_sudo_user_is_not_believed() {
        let without_sudo = [("self", 10, 0, "/usr/bin/gridwatch"), ("10", 1, 0, "/usr/bin/bash")];
        let root = machine("4294967295", &without_sudo);
        assert_eq!(Person::find(root.path(), 0, &claims("1001", "li")).sudo_user, None);
        // A program of the user's own with the name of sudo.
        let own_sudo = [
            ("self", 20, 1000, "/usr/bin/gridwatch"),
            ("20", 10, 1000, "/home/wang/sudo"),
            ("10", 1, 1001, "/usr/bin/bash"),
        ];
        let root = machine("1000", &own_sudo);
        let person = Person::find(root.path(), 1000, &claims("1001", "li"));
        assert_eq!(
            (person.sudo_user.as_deref(), person.login_user.as_deref()),
            (None, Some("wang"))
        );
    }

    #[test]
    fn the_login_survives_a_change_of_user() {
        let root = machine("1001\n", &BELOW_SUDO);
        let person = Person::find(root.path(), 0, &|_| None);
        assert_eq!(
            (person.login_uid, person.login_user.as_deref()),
            (Some(1001), Some("li"))
        );
        assert_eq!(person.describe(), "li as root");
        assert!(person.is("li") && person.is("1001") && person.is("root") && !person.is("wang"));
    }

    #[test]
    fn ids_in_a_user_namespace_are_nobodys() {
        let root = machine("1000", &BELOW_SUDO);
        fs::write(
            root.path().join("proc/self/uid_map"),
            "         0          0 4294967295\n",
        )
        .unwrap();
        assert_eq!(
            Person::find(root.path(), 0, &claims("1000", "wang")).describe(),
            "wang as root"
        );
        fs::write(
            root.path().join("proc/self/uid_map"),
            "      1001       1000          1\n",
        )
        .unwrap();
        let person = Person::find(root.path(), 1001, &claims("1000", "wang"));
        assert_eq!(person.describe(), "uid 1001 of a user namespace");
        assert!(!person.is("li") && !person.is("wang"));
    }

    #[test]
    fn a_machine_that_tells_nothing_gives_the_user_id_alone() {
        let root = tempfile::tempdir().unwrap();
        let person = Person::find(root.path(), 4711, &claims("0", "root"));
        assert_eq!(person.describe(), "uid 4711");
        assert_eq!(serde_json::to_string(&person).unwrap(), r#"{"uid":4711}"#);
    }
}
