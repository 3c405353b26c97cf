//! Renders docs/cli.md, the command line reference, from the clap definitions.

use std::fmt::Write;

use clap::{Arg, Command};

/// The command that writes docs/cli.md anew, run in the repository's root.
pub const REGENERATE: &str = "cargo run -p gridwatch-lab -- reference > docs/cli.md";

/// The whole page, with a section for each program.
pub fn document(programs: Vec<Command>) -> String {
    let mut text = format!(
        "# Command line reference\n\n\
         Every command and option, as `--help` prints them.\n\n\
         This page is generated from the programs. Do not edit it; after a change to a command, run\n\n\
         ```sh\n{REGENERATE}\n```\n"
    );
    for program in programs {
        text.push('\n');
        text += &section(program);
    }
    text
}

/// The section of one program, with its commands and subcommands.
pub fn section(mut program: Command) -> String {
    // Passes global options on to the subcommands and sets their full names.
    program.build();
    let mut text = String::new();
    command(&program, 2, &mut text);
    text
}

fn command(command: &Command, level: usize, text: &mut String) {
    let name = full_name(command);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{} `{name}`\n", "#".repeat(level));
    let about = command.get_long_about().or(command.get_about());
    if let Some(about) = about {
        markdown(&about.to_string(), text);
        text.push('\n');
    }
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(text, "```text\n{}\n```", usage.trim_start_matches("Usage:").trim());
    let subcommands: Vec<&Command> = command
        .get_subcommands()
        .filter(|c| !c.is_hide_set() && c.get_name() != "help")
        .collect();
    if !subcommands.is_empty() {
        text.push_str("\n| Command | |\n|---|---|\n");
        for subcommand in &subcommands {
            let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(
                text,
                "| [`{}`](#{}) | {} |",
                subcommand.get_name(),
                full_name(subcommand).replace(' ', "-"),
                escaped(&about).replace('|', "\\|")
            );
        }
    }
    let is_listed = |a: &&Arg| !a.is_hide_set() && !["help", "version"].contains(&a.get_id().as_str());
    let arguments: Vec<&Arg> = command.get_arguments().filter(is_listed).collect();
    for (title, is_positional) in [("Arguments", true), ("Options", false)] {
        let mut of_kind = arguments
            .iter()
            .filter(|a| a.is_positional() == is_positional)
            .peekable();
        if of_kind.peek().is_some() {
            let _ = writeln!(text, "\n**{title}**\n");
        }
        for arg in of_kind {
            argument(arg, text);
        }
    }
    let after = command.get_after_long_help().or(command.get_after_help());
    if let Some(after) = after {
        text.push('\n');
        markdown(&after.to_string(), text);
    }
    for subcommand in subcommands {
        text.push('\n');
        self::command(subcommand, level + 1, text);
    }
}

fn full_name(command: &Command) -> String {
    command.get_bin_name().unwrap_or(command.get_name()).to_owned()
}

fn argument(arg: &Arg, text: &mut String) {
    let short = arg.get_short().filter(|_| arg.get_long().is_some());
    let short = short.map_or_else(String::new, |s| format!("`-{s}`, "));
    let help = arg.get_long_help().or(arg.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut line = format!("- {short}`{arg}`: {}", escaped(&help.replace('\n', " ")));
    if !line.ends_with(['.', ']']) {
        line.push('.');
    }
    if arg.get_action().takes_values() && !arg.is_hide_possible_values_set() {
        let values: Vec<String> = arg
            .get_possible_values()
            .iter()
            .map(|v| format!("`{}`", v.get_name()))
            .collect();
        if !values.is_empty() {
            line += &format!(" Values: {}.", values.join(", "));
        }
    }
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|v| format!("`{}`", v.to_string_lossy()))
        .collect();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        line += &format!(" Default: {}.", defaults.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        line += &format!(" Environment variable: `{}`.", variable.to_string_lossy());
    }
    if let Some(aliases) = arg.get_visible_aliases() {
        let aliases: Vec<String> = aliases.iter().map(|a| format!("`--{a}`")).collect();
        line += &format!(" Alias: {}.", aliases.join(", "));
    }
    text.push_str(&line);
    text.push('\n');
}

/// Help text as Markdown: indented lines become code blocks; the rest is kept, with `<` escaped.
fn markdown(help: &str, text: &mut String) {
    let (mut in_code, mut in_list) = (false, false);
    for line in help.trim_end().lines() {
        let is_item = line.starts_with("- ") || line.split_once(". ").is_some_and(|(n, _)| n.parse::<u32>().is_ok());
        let is_indented = line.starts_with("  ");
        in_list = is_item || in_list && is_indented;
        let is_code = is_indented && !in_list;
        if is_code != in_code {
            if is_code && !text.ends_with("\n\n") {
                text.push('\n');
            }
            text.push_str(if is_code { "```text\n" } else { "```\n" });
            if !is_code && !line.is_empty() {
                text.push('\n');
            }
            in_code = is_code;
        }
        if is_code {
            text.push_str(line.strip_prefix("  ").unwrap_or(line));
        } else {
            text.push_str(&escaped(line));
        }
        text.push('\n');
    }
    if in_code {
        text.push_str("```\n");
    }
}

/// Escapes `<` outside code spans, where Markdown would take it for HTML.
fn escaped(text: &str) -> String {
    let mut in_span = false;
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        in_span ^= c == '`';
        if c == '<' && !in_span {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_listed_with_their_values_defaults_and_environment_variables() {
        let command = Command::new("tool").about("Do a thing.").subcommand(
            Command::new("run")
                .about("Run it.")
                .long_about("Run it.\n\nOn <hosts> with `<port>`.")
                .after_long_help("Examples:\n  tool run --level high\n\nExit codes: 0 done.")
                .arg(Arg::new("file").required(true).help("File to read"))
                .arg(
                    Arg::new("level")
                        .short('l')
                        .long("level")
                        .value_name("LEVEL")
                        .help("How much")
                        .value_parser(["low", "high"])
                        .default_value("low")
                        .env("TOOL_LEVEL"),
                )
                .arg(
                    Arg::new("quiet")
                        .long("quiet")
                        .hide(true)
                        .action(clap::ArgAction::SetTrue),
                ),
        );
        assert_eq!(
            section(command),
            "## `tool`\n\nDo a thing.\n\n```text\ntool [COMMAND]\n```\n\n\
             | Command | |\n|---|---|\n| [`run`](#tool-run) | Run it. |\n\n\
             ### `tool run`\n\nRun it.\n\nOn \\<hosts> with `<port>`.\n\n\
             ```text\ntool run [OPTIONS] <file>\n```\n\n\
             **Arguments**\n\n- `<file>`: File to read.\n\n\
             **Options**\n\n- `-l`, `--level <LEVEL>`: How much. Values: `low`, `high`. Default: `low`. \
             Environment variable: `TOOL_LEVEL`.\n\n\
             Examples:\n\n```text\ntool run --level high\n```\n\nExit codes: 0 done.\n"
        );
    }

    #[test]
    fn lists_stay_lists() {
        let mut text = String::new();
        markdown("First:\n\n1. one\n   more of one\n2. two\n\nEnd.", &mut text);
        assert_eq!(text, "First:\n\n1. one\n   more of one\n2. two\n\nEnd.\n");
    }
}
