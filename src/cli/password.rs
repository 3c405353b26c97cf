//! Asks for a password on the terminal, without showing it, or takes it from a line of standard input.

use std::{
    io::{self, BufRead, IsTerminal, Read, Write},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP},
    iterator::Signals,
    low_level::emulate_default_handler,
};

use super::{Failure, terminal};
use gridwatch_base::{
    error::Class,
    secret::{Secret, Zeroizing},
};

/// Bytes of a password that are read.
const MAX_PASSWORD: u64 = 1_024;

/// The variable that a camera's password is taken from instead.
pub(super) const VARIABLE: &str = "GRIDWATCH_CAMERA_PASSWORD";

/// The terminal's modes before its echo was turned off; `None` while the echo is on.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

fn before() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_echo(modes: &Termios, is_on: bool) -> io::Result<()> {
    let mut modes = modes.clone();
    if !is_on {
        modes.local_modes.remove(LocalModes::ECHO);
    }
    Ok(tcsetattr(io::stdin(), OptionalActions::Flush, &modes)?)
}

/// The terminal's echo, off until this is dropped; on again also when a signal ends or stops the process, such as Ctrl-C or Ctrl-Z.
struct EchoOff;

impl EchoOff {
    fn new() -> io::Result<Self> {
        watch_signals()?;
        let modes = tcgetattr(io::stdin())?;
        let mut before = before();
        set_echo(&modes, false)?;
        *before = Some(modes);
        Ok(Self)
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        if let Some(modes) = before().take() {
            // If that fails, `stty sane` brings the echo back.
            let _ = set_echo(&modes, true);
        }
    }
}

/// Lets the signals that a terminal sends do what they do by default, but with the echo on. This holds for the rest of the command: the
/// library does not give a signal back.
fn watch_signals() -> io::Result<()> {
    static STARTED: Once = Once::new();
    let mut result = Ok(());
    STARTED.call_once(|| {
        result = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP]).map(|mut signals| {
            thread::spawn(move || {
                for signal in signals.forever() {
                    let before = before();
                    if let Some(modes) = &*before {
                        let _ = set_echo(modes, true);
                        // So that the shell's prompt is not behind this one.
                        let _ = writeln!(terminal::stderr());
                    }
                    // Ends the process, or returns when it was stopped and goes on.
                    let _ = emulate_default_handler(signal);
                    if let Some(modes) = &*before {
                        let _ = set_echo(modes, false);
                    }
                }
            });
        });
    });
    result
}

/// A line for each prompt, typed without being shown; the first line of standard input if that is no terminal.
fn read(prompts: &[&str]) -> Result<Vec<Zeroizing<String>>, Failure> {
    let unreadable = |e: io::Error| Failure::new(Class::Transient, format!("standard input: {e}"));
    let is_terminal = io::stdin().is_terminal();
    let prompts = if is_terminal { prompts } else { &[""] };
    let mut out = terminal::stderr();
    // Before the prompt: who types at once is not shown either.
    let _hidden = is_terminal.then(EchoOff::new).transpose().map_err(unreadable)?;
    let mut lines = Vec::new();
    for prompt in prompts {
        // Without a terminal to write to, the answer still counts.
        let _ = write!(out, "{prompt}").and_then(|()| out.flush());
        let mut line = Zeroizing::new(String::new());
        let read = io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line);
        if is_terminal {
            let _ = writeln!(out);
        }
        read.map_err(unreadable)?;
        let end = line.trim_end_matches(['\r', '\n']).len();
        line.truncate(end);
        lines.push(line);
    }
    Ok(lines)
}

/// A camera's password for `user`: from the environment, the terminal, or the first line of standard input.
///
/// # Errors
/// There is none, or standard input cannot be read.
pub(super) fn ask(user: &str) -> Result<Secret, Failure> {
    let remedy = format!("type it, pipe it in, or set {VARIABLE}");
    if let Ok(password) = std::env::var(VARIABLE) {
        return checked(&Zeroizing::new(password), &remedy);
    }
    let lines = read(&[&format!("Password of {user}: ")])?;
    checked(lines.first().map_or("", |line| line), &remedy)
}

/// A new password for `user`: typed twice on the terminal, or the first line of standard input.
///
/// # Errors
/// There is none, the two differ, or standard input cannot be read.
pub(super) fn ask_new(user: &str) -> Result<Secret, Failure> {
    let lines = read(&[&format!("New password of {user}: "), "The same again: "])?;
    let first = lines.first().map_or("", |line| line);
    if lines.iter().any(|line| line.as_str() != first) {
        let message = "the two passwords differ; nothing was changed";
        return Err(Failure::new(Class::Config, message));
    }
    checked(first, "type it, or pipe it in as one line")
}

fn checked(password: &str, remedy: &str) -> Result<Secret, Failure> {
    if password.is_empty() || password.contains(char::is_control) {
        let message = format!("no password: {remedy}; it has no control characters");
        return Err(Failure::new(Class::Config, message));
    }
    Ok(Secret::new(password))
}
