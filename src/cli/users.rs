//! `gridwatch users`: the console's users, and the tokens of programs.

use std::{collections::BTreeSet, path::Path, process::ExitCode};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{
    Failure,
    audited::audited,
    json_line,
    options::{BoxState, StateArgs},
    password, print,
    terminal::note,
};
use crate::audit::Act;
use gridwatch_base::{
    error::Class,
    person::Person,
    text::{counted, printable},
};
use gridwatch_contract::When;
use gridwatch_store::{Store, is_state_dir};
use gridwatch_web::{
    Role,
    accounts::{Accounts, NewToken, NewUser},
};

/// Manage the console's users, and the tokens of programs.
///
/// Without users, the console is open to everyone on the box and to no one else. With the first user, who must be an administrator with
/// a password, everybody must log in. Roles: a viewer sees cameras and cases; an operator also reviews cases and changes cameras and zones; an
/// admin also manages users and the box. The daemon notices a change at once. A new password, role or group ends the user's sessions.
///
/// Passwords are typed without being shown, or piped in as one line; they are never arguments, which other users of the box could read.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch users add wang --role admin --config /etc/gridwatch/edge.toml
  gridwatch users add li --role viewer --groups east,market
  gridwatch users add zhao --role operator --no-password      logs in through a trusted reverse proxy only
  gridwatch users passwd wang < new-password
  gridwatch users role li operator
  gridwatch users token add dashboard --role viewer --days 365 > dashboard.token")]
pub struct UsersArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Add a user.
    ///
    /// Can be done before the daemon's first start.
    Add {
        /// 1 to 64 letters, digits or . _ @ -
        name: String,
        /// viewer, operator or admin.
        #[arg(long, value_name = "ROLE")]
        role: Role,
        /// Show only cameras of these groups (`groups` of a camera in the configuration), separated by commas. [default: all cameras]
        #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
        groups: Vec<String>,
        /// The user logs in through a trusted reverse proxy only (console.identity_header).
        #[arg(long)]
        no_password: bool,
    },
    /// List the users.
    List {
        /// Print one JSON object per user.
        #[arg(long)]
        json: bool,
    },
    /// Set a user's password, which ends their sessions.
    Passwd {
        /// The user.
        name: String,
    },
    /// Set a user's role and groups, which ends their sessions.
    Role {
        /// The user.
        name: String,
        /// viewer, operator or admin.
        role: Role,
        /// Show only cameras of these groups, separated by commas; "" for all cameras. [default: as before]
        #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
        groups: Option<Vec<String>>,
    },
    /// Remove a user, which ends their sessions.
    Remove {
        /// The user.
        name: String,
    },
    /// Manage the tokens with which programs use the JSON API.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
}

#[derive(Debug, clap::Subcommand)]
enum TokenCommand {
    /// Make a token and print it: it is not stored and cannot be shown again.
    ///
    /// Programs send it as `Authorization: Bearer TOKEN`. The API is described at /api/v1/openapi.json of the console.
    Add {
        /// Name of the program: 1 to 64 letters, digits or . _ @ -
        name: String,
        /// viewer, operator or admin.
        #[arg(long, value_name = "ROLE")]
        role: Role,
        /// Show only cameras of these groups, separated by commas. [default: all cameras]
        #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
        groups: Vec<String>,
        /// Days after which it ends. [default: never]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=3650))]
        days: Option<u16>,
    },
    /// List the tokens.
    List {
        /// Print one JSON object per token.
        #[arg(long)]
        json: bool,
    },
    /// Remove a token: its program is refused at once.
    Remove {
        /// Name of the token.
        name: String,
    },
}

/// A user, as listed for programs.
#[derive(Serialize)]
struct ListedUser<'a> {
    name: &'a str,
    role: Role,
    groups: &'a BTreeSet<String>,
    has_password: bool,
    added_at: Timestamp,
}

/// A token, as listed for programs.
#[derive(Serialize)]
struct ListedToken<'a> {
    name: &'a str,
    role: Role,
    groups: &'a BTreeSet<String>,
    made_by: &'a str,
    made_at: Timestamp,
    expires_at: Option<Timestamp>,
}

/// Runs the command.
///
/// # Errors
/// No state directory, a user or token that cannot be used or is unknown, no password, or the file of users cannot be changed.
pub fn run(args: &UsersArgs) -> Result<ExitCode, Failure> {
    let located = args.state.locate()?;
    match &args.command {
        Command::Add {
            name,
            role,
            groups,
            no_password,
        } => add(&located.dir, name, *role, groups, !no_password)?,
        Command::List { json } => list(&located, *json)?,
        Command::Passwd { name } => {
            change(&located.dir, Act::new("users passwd").with("user", name), |accounts| {
                expect_user(accounts, name)?;
                Ok(accounts.set_password(name, &password::ask_new(name)?)?)
            })?;
            note(format!(
                "Changed: {} logs in with the new password; their sessions have ended.",
                printable(name)
            ));
        }
        Command::Role { name, role, groups } => {
            let groups = groups.as_deref().map(set);
            let mut act = Act::new("users role").with("user", name).with("role", role);
            if let Some(groups) = &groups {
                act.add("groups", joined(groups));
            }
            change(&located.dir, act, |accounts| {
                Ok(accounts.set_role(name, *role, groups.as_ref())?)
            })?;
            note(format!(
                "Changed: {} is {role} now; their sessions have ended.",
                printable(name)
            ));
        }
        Command::Remove { name } => {
            let act = Act::new("users remove").with("user", name);
            let left = change(&located.dir, act, |accounts| {
                accounts.remove(name)?;
                Ok(accounts.users()?.len())
            })?;
            note(format!("Removed: {} can no longer log in.", printable(name)));
            if left == 0 {
                note(
                    "No users are left: everyone on the box uses the console without login, and one that listens for others does not start.",
                );
            }
        }
        Command::Token { command } => token(&located, command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn add(dir: &Path, name: &str, role: Role, groups: &[String], has_password: bool) -> Result<(), Failure> {
    let groups = set(groups);
    let act = Act::new("users add")
        .with("user", name)
        .with("role", role)
        .with("groups", joined(&groups))
        .with("has_password", has_password);
    expect_usable(dir)?;
    let count = audited(dir, act, |_| {
        let accounts = gridwatch_console::accounts(dir);
        // Nobody types a password twice in vain.
        if accounts.users()?.iter().any(|user| user.name == name) {
            return Err(failed(format!("there is a user with the name {name:?} already")));
        }
        let password = has_password.then(|| password::ask_new(name)).transpose()?;
        accounts.add(&NewUser {
            name,
            role,
            groups: groups.clone(),
            password: password.as_ref(),
        })?;
        Ok::<_, Failure>(accounts.users()?.len())
    })?;
    note(format!("Added: {} is {role}.", printable(name)));
    if count == 1 {
        note("From now on everybody must log in to the console, also on the box.");
    }
    Ok(())
}

fn list(located: &BoxState, json: bool) -> Result<(), Failure> {
    expect_state_dir(&located.dir)?;
    let users = gridwatch_console::accounts(&located.dir).users()?;
    let mut text = String::new();
    if json {
        for user in &users {
            text += &json_line(&ListedUser {
                name: &user.name,
                role: user.role,
                groups: &user.groups,
                has_password: user.has_password(),
                added_at: user.added_at,
            })?;
        }
        return print(&text);
    }
    if users.is_empty() {
        note(
            "There are no users: everyone on the box uses the console without login. Add the first with `gridwatch users add NAME --role admin`.",
        );
        return Ok(());
    }
    let zone = zone(located);
    text += &format!(
        "{:20}  {:8}  {:20}  {:8}  ADDED\n",
        "USER", "ROLE", "GROUPS", "PASSWORD"
    );
    for user in &users {
        text += &format!(
            "{:20}  {:8}  {:20}  {:8}  {}\n",
            printable(&user.name),
            user.role.as_str(),
            shown_groups(&user.groups),
            if user.has_password() { "yes" } else { "no" },
            When::new(user.added_at, &zone)
        );
    }
    print(&text)
}

fn token(located: &BoxState, command: &TokenCommand) -> Result<(), Failure> {
    let dir = &located.dir;
    match command {
        TokenCommand::Add {
            name,
            role,
            groups,
            days,
        } => {
            let groups = set(groups);
            let expires_at = days.map(|days| Timestamp::now() + SignedDuration::from_hours(24 * i64::from(days)));
            let mut act = Act::new("users token add")
                .with("token", name)
                .with("role", role)
                .with("groups", joined(&groups));
            if let Some(at) = expires_at {
                act.add("expires_at", at);
            }
            expect_usable(dir)?;
            let made_by = Person::current().describe();
            let token = audited(dir, act, |_| {
                Ok::<_, Failure>(gridwatch_console::accounts(dir).add_token(&NewToken {
                    name,
                    role: *role,
                    groups,
                    made_by: &made_by,
                    expires_at,
                })?)
            })?;
            note(format!(
                "Made the token of {}; keep it now, as it is not stored and cannot be shown again:",
                printable(name)
            ));
            print(&format!("{}\n", *token))
        }
        TokenCommand::List { json } => list_tokens(located, *json),
        TokenCommand::Remove { name } => {
            let act = Act::new("users token remove").with("token", name);
            change(dir, act, |accounts| Ok(accounts.remove_token(name)?))?;
            note(format!("Removed: the token of {} is refused now.", printable(name)));
            Ok(())
        }
    }
}

fn list_tokens(located: &BoxState, json: bool) -> Result<(), Failure> {
    expect_state_dir(&located.dir)?;
    let tokens = gridwatch_console::accounts(&located.dir).tokens()?;
    let mut text = String::new();
    if json {
        for token in &tokens {
            text += &json_line(&ListedToken {
                name: &token.name,
                role: token.role,
                groups: &token.groups,
                made_by: &token.made_by,
                made_at: token.made_at,
                expires_at: token.expires_at,
            })?;
        }
        return print(&text);
    }
    let zone = zone(located);
    text += &format!(
        "{:20}  {:8}  {:20}  {:20}  EXPIRES\n",
        "TOKEN", "ROLE", "GROUPS", "MADE BY"
    );
    for token in &tokens {
        let expires = match token.expires_at {
            None => "never".to_owned(),
            Some(at) if at <= Timestamp::now() => format!("has ended, {}", When::new(at, &zone)),
            Some(at) => When::new(at, &zone).to_string(),
        };
        text += &format!(
            "{:20}  {:8}  {:20}  {:20}  {expires}\n",
            printable(&token.name),
            token.role.as_str(),
            shown_groups(&token.groups),
            printable(&token.made_by)
        );
    }
    print(&text)
}

fn failed(message: String) -> Failure {
    Failure::new(Class::Config, message)
}

/// A recorded change of a box that has users or has run.
fn change<T>(dir: &Path, act: Act, work: impl FnOnce(&Accounts) -> Result<T, Failure>) -> Result<T, Failure> {
    expect_state_dir(dir)?;
    audited(dir, act, |_| work(&gridwatch_console::accounts(dir)))
}

fn expect_user(accounts: &Accounts, name: &str) -> Result<(), Failure> {
    let users = accounts.users()?;
    match users.iter().any(|user| user.name == name) {
        true => Ok(()),
        false => Err(failed(format!(
            "there is no user with the name {name:?}; there are {}",
            counted(users.len(), "user", "users")
        ))),
    }
}

fn expect_state_dir(dir: &Path) -> Result<(), Failure> {
    match is_state_dir(dir) {
        true => Ok(()),
        false => Err(failed(format!(
            "{}: not a state directory of gridwatch; name it with --state, or the configuration with --config",
            dir.display()
        ))),
    }
}

/// Fails if `dir` is a folder of something else. It may be missing or empty, before the daemon's first start.
fn expect_usable(dir: &Path) -> Result<(), Failure> {
    let is_new = match std::fs::read_dir(dir) {
        // A new file system has this folder.
        Ok(entries) => entries.flatten().all(|entry| entry.file_name() == "lost+found"),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
        Err(e) => {
            return Err(failed(format!(
                "{}: {e}; run this as the user of the daemon",
                dir.display()
            )));
        }
    };
    if !is_new {
        return expect_state_dir(dir);
    }
    note(format!(
        "note: {} is new: the daemon must have it as its node.state_dir.",
        dir.display()
    ));
    Ok(())
}

/// The zone to print times in: as `BoxState::zone`; UTC before the daemon's first start.
fn zone(located: &BoxState) -> TimeZone {
    let store = Store::open_read_only(&located.dir);
    store.and_then(|store| located.zone(&store)).unwrap_or(TimeZone::UTC)
}

/// The named groups; an empty word names none.
fn set(groups: &[String]) -> BTreeSet<String> {
    let words = groups.iter().map(|group| group.trim());
    words.filter(|group| !group.is_empty()).map(str::to_owned).collect()
}

fn joined(groups: &BTreeSet<String>) -> String {
    groups.iter().cloned().collect::<Vec<_>>().join(" ")
}

fn shown_groups(groups: &BTreeSet<String>) -> String {
    match groups.is_empty() {
        true => "all cameras".to_owned(),
        false => printable(&groups.iter().cloned().collect::<Vec<_>>().join(",")),
    }
}
