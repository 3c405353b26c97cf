//! Asks for a password on the terminal, without showing it.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{Failure, terminal};
use gridwatch_base::{
    error::Class,
    secret::{Secret, Zeroizing},
};

/// Bytes of a password that are read.
const MAX_PASSWORD: u64 = 1_024;

/// The variable that a password is taken from instead.
pub(super) const VARIABLE: &str = "GRIDWATCH_CAMERA_PASSWORD";

/// The terminal's echo, off until this is dropped.
struct EchoOff(Termios);

impl EchoOff {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut without = before.clone();
        without.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &without)?;
        Ok(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        // If that fails, `stty sane` brings the echo back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// The password for `user`: from the environment, the terminal, or the first line of standard input.
///
/// # Errors
/// There is none, or standard input cannot be read.
pub(super) fn ask(user: &str) -> Result<Secret, Failure> {
    if let Ok(password) = std::env::var(VARIABLE) {
        return checked(&Zeroizing::new(password));
    }
    let unreadable = |e: io::Error| Failure::new(Class::Transient, format!("standard input: {e}"));
    let mut out = terminal::stderr();
    let echo = match io::stdin().is_terminal() {
        true => {
            // Without a terminal to write to, the answer still counts.
            let _ = write!(out, "Password of {user}: ").and_then(|()| out.flush());
            Some(EchoOff::new().map_err(unreadable)?)
        }
        false => None,
    };
    let mut line = Zeroizing::new(String::new());
    let read = io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line);
    if let Some(hidden) = echo {
        drop(hidden);
        let _ = writeln!(out);
    }
    read.map_err(unreadable)?;
    checked(line.trim_end_matches(['\r', '\n']))
}

fn checked(password: &str) -> Result<Secret, Failure> {
    if password.is_empty() || password.contains(char::is_control) {
        let message = format!("no password: type it, pipe it in, or set {VARIABLE}; it has no control characters");
        return Err(Failure::new(Class::Config, message));
    }
    Ok(Secret::new(password))
}
