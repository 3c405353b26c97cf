//! Users and the tokens of programs: `users.json` in the program's folder.
//!
//! The program and its command line change the file side by side: each change is made under a lock on a file beside it and replaces the whole
//! file (mode 0600, flushed, renamed). Readers notice a change by the file's identity and time. Passwords are stored as argon2id hashes,
//! tokens as SHA-256, as they have 256 random bits.
//!
//! This module knows no sessions and counts no failed logins.

mod password;

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use gridwatch_base::{
    digest::sha256_hex,
    disk::{open_private, write_private},
    error::Class,
    file,
    secret::{Secret, Zeroizing},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::password::{Overloaded, PasswordPool};
use crate::{random, settings::Role};

/// Users and tokens, in the program's folder. Its presence tells whether there are any.
pub const USERS_FILE: &str = "users.json";

/// A thousand users with a hundred groups each are a tenth of it.
const MAX_FILE: u64 = 4 << 20;
/// Users, and tokens, at most.
const MAX_ENTRIES: usize = 1000;
/// A change takes milliseconds; only a stopped process holds the lock for longer.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// NIST SP 800-63B asks for 8 characters and no rules about kinds of characters; 10, as the rate of guesses is limited per account only.
pub const MIN_PASSWORD: usize = 10;
/// Characters of a password, at most; argon2 hashes all of them.
pub const MAX_PASSWORD: usize = 256;
/// Characters of a user's or token's name, at most.
pub const MAX_NAME: usize = 64;

/// Groups of a user or token, at most.
pub const MAX_GROUPS: usize = 100;

/// A user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Unique name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The groups to whose things they are restricted; empty: unrestricted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// When they were added.
    pub added_at: Timestamp,
    /// argon2id hash in PHC string format; `None`: logs in through a trusted proxy only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<PasswordHash>,
    /// Changes with everything that ends the user's sessions: password, role, groups, removal.
    stamp: String,
}

impl User {
    /// True if the user can log in with a password.
    pub fn has_password(&self) -> bool {
        self.hash.is_some()
    }

    /// What a session of this user is bound to.
    pub fn stamp(&self) -> &str {
        &self.stamp
    }

    /// The password's argon2id hash in PHC string format; `None`: logs in through a trusted proxy only.
    pub fn hash(&self) -> Option<&str> {
        self.hash.as_ref().map(|hash| &*hash.0)
    }
}

/// A hash that `Debug` does not print.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct PasswordHash(String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A token with which a program uses the JSON API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Unique name.
    pub name: String,
    /// What the program may do.
    pub role: Role,
    /// The groups to whose things it is restricted; empty: unrestricted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// Who made it.
    pub made_by: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// When it ends; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// SHA-256 of the token, in hex.
    sha256: String,
}

/// A user to be added.
#[derive(Debug, Clone)]
pub struct NewUser<'a> {
    /// 1 to 64 letters, digits or `.`, `_`, `@`, `-`.
    pub name: &'a str,
    /// What they may do.
    pub role: Role,
    /// The groups to whose things they are restricted; empty: unrestricted.
    pub groups: BTreeSet<String>,
    /// 10 characters or more; `None`: logs in through a trusted proxy only.
    pub password: Option<&'a Secret>,
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// As a user's name.
    pub name: &'a str,
    /// What the program may do.
    pub role: Role,
    /// The groups to whose things it is restricted; empty: unrestricted.
    pub groups: BTreeSet<String>,
    /// Who makes it.
    pub made_by: &'a str,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Why the accounts were not read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The file cannot be read or written.
    #[error("cannot access {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is damaged.
    #[error("{path}: {reason}; restore it from a backup, or delete it and add the users again", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not parse.
        reason: String,
    },
    /// Another process holds the lock.
    #[error("another process is changing the users; try again")]
    Busy,
    /// The name cannot be used.
    #[error("{0:?} is not a name: use 1 to 64 letters, digits or . _ @ -")]
    BadName(String),
    /// A group cannot be used.
    #[error("{0:?} is not a group: use 1 to 64 letters, digits, - or _")]
    BadGroup(String),
    /// An administrator could lift a restriction to groups.
    #[error("an administrator is never restricted to groups: give none, or another role")]
    AdminGroups,
    /// There are too many groups.
    #[error("use {MAX_GROUPS} groups at most")]
    TooManyGroups,
    /// The name is in use.
    #[error("there is a user or token with the name {0:?} already")]
    Exists(String),
    /// There is no such user or token.
    #[error("there is no user or token with the name {0:?}")]
    Unknown(String),
    /// The password is too short or too long, or is the name.
    #[error("use a password of {MIN_PASSWORD} to {MAX_PASSWORD} characters that is not the user's name")]
    BadPassword,
    /// No one could manage users any more.
    #[error("{0:?} is the only administrator with a password; make another one first")]
    LastAdmin(String),
    /// The first user could not add another one.
    #[error("the first user must be an administrator with a password, as from then on everybody must log in")]
    FirstUser,
    /// There are too many.
    #[error("there are {MAX_ENTRIES} already; remove some first")]
    TooMany,
    /// The password could not be hashed.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

impl AccountError {
    /// The error's class.
    pub fn class(&self) -> Class {
        match self {
            Self::Busy => Class::Transient,
            Self::Io { .. } | Self::Damaged { .. } => Class::Data,
            Self::Hash(_) => Class::Bug,
            _ => Class::Config,
        }
    }
}

/// Contents of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct AccountsFile {
    /// Version of this format; 1.
    version: u32,
    users: Vec<User>,
    #[serde(default)]
    tokens: Vec<Token>,
}

/// All users and tokens at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// In the order in which they were added.
    pub users: Vec<User>,
    /// In the order in which they were made.
    pub tokens: Vec<Token>,
}

impl Snapshot {
    /// The user with this name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The token's entry, if it has not ended. Tokens are compared by their hashes, so that timing tells nothing about them.
    pub fn token(&self, token: &str, now: Timestamp) -> Option<&Token> {
        let sha256 = sha256_hex(token.as_bytes());
        let found = self.tokens.iter().find(|entry| entry.sha256 == sha256)?;
        found.expires_at.is_none_or(|end| now < end).then_some(found)
    }
}

/// Identity, size and time of change of a file; `None` if it does not exist.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The users and tokens of a program. Its methods block for a disk access, those with a password for a tenth of a second or so.
#[derive(Debug)]
pub struct Accounts {
    path: PathBuf,
    read: Mutex<(Stamp, Arc<Snapshot>)>,
}

impl Accounts {
    /// The accounts in the program's folder. Nothing is read or created yet.
    pub fn of(folder: &Path) -> Self {
        Self {
            path: folder.join(USERS_FILE),
            read: Mutex::default(),
        }
    }

    /// The users, in the order in which they were added.
    ///
    /// # Errors
    /// [`AccountError::Io`] or [`AccountError::Damaged`].
    pub fn users(&self) -> Result<Vec<User>, AccountError> {
        Ok(self.snapshot()?.users.clone())
    }

    /// The tokens, in the order in which they were made.
    ///
    /// # Errors
    /// [`AccountError::Io`] or [`AccountError::Damaged`].
    pub fn tokens(&self) -> Result<Vec<Token>, AccountError> {
        Ok(self.snapshot()?.tokens.clone())
    }

    /// Users and tokens now. Reads the file only if it has changed.
    ///
    /// # Errors
    /// [`AccountError::Io`] or [`AccountError::Damaged`].
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, AccountError> {
        // Before reading: a change in between is noticed the next time.
        let stamp = self.stamp()?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.0 != stamp || stamp.is_none() {
            let AccountsFile { users, tokens, .. } = self.load()?;
            *read = (stamp, Arc::new(Snapshot { users, tokens }));
        }
        Ok(Arc::clone(&read.1))
    }

    /// Adds a user.
    ///
    /// # Errors
    /// The name, a group or the password is not usable, the name is in use, the first user is no administrator with a password, or the file
    /// cannot be changed.
    pub fn add(&self, new: &NewUser<'_>) -> Result<(), AccountError> {
        check_name(new.name)?;
        check_groups(&new.groups)?;
        expect_unrestricted(new.role, &new.groups)?;
        let hash = new.password.map(|password| hash(new.name, password)).transpose()?;
        self.change(|file| {
            file.expect_free(new.name, file.users.len())?;
            if file.users.is_empty() && (new.role != Role::Admin || hash.is_none()) {
                return Err(AccountError::FirstUser);
            }
            file.users.push(User {
                name: new.name.to_owned(),
                role: new.role,
                groups: new.groups.clone(),
                added_at: Timestamp::now(),
                hash,
                stamp: random::id(),
            });
            Ok(())
        })
    }

    /// Sets a user's password, which ends their sessions.
    ///
    /// # Errors
    /// The password is not usable, there is no such user, or the file cannot be changed.
    pub fn set_password(&self, name: &str, password: &Secret) -> Result<(), AccountError> {
        let hash = hash(name, password)?;
        self.change(|file| {
            let user = file.user_mut(name)?;
            user.hash = Some(hash);
            user.stamp = random::id();
            Ok(())
        })
    }

    /// Sets a user's role, and their groups if any are given, which ends their sessions. An empty set of groups lifts the restriction.
    ///
    /// # Errors
    /// A group is not usable, there is no such user, they are the last administrator, or the file cannot be changed.
    pub fn set_role(&self, name: &str, role: Role, groups: Option<&BTreeSet<String>>) -> Result<(), AccountError> {
        groups.map(check_groups).transpose()?;
        self.change(|file| {
            let user = file.user_mut(name)?;
            (user.role, user.stamp) = (role, random::id());
            if let Some(groups) = groups {
                user.groups.clone_from(groups);
            }
            expect_unrestricted(role, &user.groups)?;
            file.expect_admin(name)
        })
    }

    /// Removes a user, which ends their sessions.
    ///
    /// # Errors
    /// There is no such user, they are the last administrator of several users, or the file cannot be changed.
    pub fn remove(&self, name: &str) -> Result<(), AccountError> {
        self.change(|file| {
            file.user_mut(name)?;
            file.users.retain(|user| user.name != name);
            file.expect_admin(name)
        })
    }

    /// Makes a token, and returns it: it is not stored and cannot be shown again.
    ///
    /// # Errors
    /// The name or a group is not usable, the name is in use, or the file cannot be changed.
    pub fn add_token(&self, new: &NewToken<'_>) -> Result<Zeroizing<String>, AccountError> {
        check_name(new.name)?;
        check_groups(&new.groups)?;
        expect_unrestricted(new.role, &new.groups)?;
        let token = Zeroizing::new(format!("gw_{}", *random::token()));
        self.change(|file| {
            file.expect_free(new.name, file.tokens.len())?;
            file.tokens.push(Token {
                name: new.name.to_owned(),
                role: new.role,
                groups: new.groups.clone(),
                made_by: new.made_by.to_owned(),
                made_at: Timestamp::now(),
                expires_at: new.expires_at,
                sha256: sha256_hex(token.as_bytes()),
            });
            Ok(())
        })?;
        Ok(token)
    }

    /// Removes a token.
    ///
    /// # Errors
    /// There is no such token, or the file cannot be changed.
    pub fn remove_token(&self, name: &str) -> Result<(), AccountError> {
        self.change(|file| {
            let before = file.tokens.len();
            file.tokens.retain(|token| token.name != name);
            match file.tokens.len() < before {
                true => Ok(()),
                false => Err(AccountError::Unknown(name.to_owned())),
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut AccountsFile) -> Result<(), AccountError>) -> Result<(), AccountError> {
        let _lock = self.lock()?;
        let mut file = self.load()?;
        change(&mut file)?;
        file.version = 1;
        let text = serde_json::to_vec_pretty(&file).expect("names, times and hashes serialize to JSON");
        write_private(&self.path, &text).map_err(|e| self.io(e))
    }

    fn lock(&self) -> Result<File, AccountError> {
        let path = self.path.with_extension("lock");
        let io = |source| AccountError::Io {
            path: path.clone(),
            source,
        };
        let file = open_private(&path).map_err(io)?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::WouldBlock) => return Err(AccountError::Busy),
                Err(TryLockError::Error(e)) => return Err(io(e)),
            }
        }
    }

    fn load(&self) -> Result<AccountsFile, AccountError> {
        let text = match file::read_secret(&self.path, MAX_FILE) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(AccountsFile::default()),
            text => text.map_err(|e| self.io(e))?,
        };
        let damaged = |reason: String| AccountError::Damaged {
            path: self.path.clone(),
            reason,
        };
        // serde quotes what it cannot read, which may be a hash: only the place is said.
        let file: AccountsFile = serde_json::from_str(&text).map_err(|e| {
            damaged(format!(
                "not a list of users (line {}, column {})",
                e.line(),
                e.column()
            ))
        })?;
        match file.version {
            1 => Ok(file),
            newer => Err(damaged(format!("version {newer} is of a newer gridwatch"))),
        }
    }

    fn stamp(&self) -> Result<Stamp, AccountError> {
        match fs::metadata(&self.path) {
            Ok(file) => Ok(Some((file.ino(), file.len(), file.ctime(), file.ctime_nsec()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.io(e)),
        }
    }

    fn io(&self, source: io::Error) -> AccountError {
        AccountError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

impl AccountsFile {
    fn user_mut(&mut self, name: &str) -> Result<&mut User, AccountError> {
        let found = self.users.iter_mut().find(|user| user.name == name);
        found.ok_or_else(|| AccountError::Unknown(name.to_owned()))
    }

    /// Fails if the name is in use, in any spelling of its letters, or `count` is the maximum.
    fn expect_free(&self, name: &str, count: usize) -> Result<(), AccountError> {
        let users = self.users.iter().map(|user| &user.name);
        let mut names = users.chain(self.tokens.iter().map(|token| &token.name));
        let lower = name.to_lowercase();
        if names.any(|used| used.to_lowercase() == lower) {
            return Err(AccountError::Exists(name.to_owned()));
        }
        match count < MAX_ENTRIES {
            true => Ok(()),
            false => Err(AccountError::TooMany),
        }
    }

    /// Fails if users remain and none of them is an administrator who can log in.
    fn expect_admin(&self, changed: &str) -> Result<(), AccountError> {
        let is_admin = |user: &User| user.role == Role::Admin && user.hash.is_some();
        match self.users.is_empty() || self.users.iter().any(is_admin) {
            true => Ok(()),
            false => Err(AccountError::LastAdmin(changed.to_owned())),
        }
    }
}

fn check_name(name: &str) -> Result<(), AccountError> {
    let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '@' | '-');
    let is_short = !name.is_empty() && name.chars().count() <= MAX_NAME;
    match is_short && name.chars().all(is_allowed) {
        true => Ok(()),
        false => Err(AccountError::BadName(name.chars().take(MAX_NAME).collect())),
    }
}

/// Whoever manages users can free anybody, themselves too.
fn expect_unrestricted(role: Role, groups: &BTreeSet<String>) -> Result<(), AccountError> {
    match role == Role::Admin && !groups.is_empty() {
        true => Err(AccountError::AdminGroups),
        false => Ok(()),
    }
}

fn check_groups(groups: &BTreeSet<String>) -> Result<(), AccountError> {
    let is_group = |group: &String| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=MAX_NAME).contains(&group.len()) && group.bytes().all(is_allowed)
    };
    match groups.iter().find(|group| !is_group(group)) {
        None if groups.len() <= MAX_GROUPS => Ok(()),
        None => Err(AccountError::TooManyGroups),
        Some(bad) => Err(AccountError::BadGroup(bad.chars().take(MAX_NAME).collect())),
    }
}

fn hash(name: &str, password: &Secret) -> Result<PasswordHash, AccountError> {
    let text = password.expose();
    if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&text.chars().count()) || text.to_lowercase() == name.to_lowercase() {
        return Err(AccountError::BadPassword);
    }
    password::hash(text).map(PasswordHash)
}

#[cfg(test)]
mod tests;
