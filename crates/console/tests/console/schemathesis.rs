//! The JSON API against schemathesis, a fuzzer that makes requests from the OpenAPI document and checks that the answers are as described.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use gridwatch_base::digest::sha256_hex;
use gridwatch_console::{Role, accounts::NewToken};
use regex_lite::Regex;

use crate::street::Served;

const SETUP: &str = "crates/console/tests/schemathesis/setup.sh";

/// The same requests in each run, so that a failure can be looked into.
const SEED: &str = "19";

/// Requests for each operation in a phase, at most: with these a run takes about a minute on two busy cores.
const MANY: &str = "20";
/// Where most of it is refused.
const FEW: &str = "5";

/// The operations whose descriptions hold against the fuzzer. Those about configuration, ledger, system, reviews and the addition of cameras are
/// newer and state less about their input than they ask of it: to be described as strictly and added here.
const CHECKED: &str = r"^/api/v1/(account.*|cases|cases/\{id\}|cases/\{id\}/evidence/\{item\}|openapi\.json|sessions.*|status|tokens.*|users.*|views|views/\{view\}|views/\{view\}/(look|picture))$";

/// The fuzzer, where `setup.sh` installs it; else why there is none.
fn installed() -> Result<PathBuf, String> {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis/requirements.txt");
    let name = format!("schemathesis-{}", &sha256_hex(&fs::read(requirements).unwrap())[..16]);
    let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let caches = caches.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let folder = env::var_os("GRIDWATCH_SCHEMATHESIS").map(PathBuf::from);
    let folder = folder.or_else(|| Some(caches?.join("gridwatch").join(name)));
    let folder = folder.ok_or("neither GRIDWATCH_SCHEMATHESIS nor HOME is set")?;
    let program = folder.join("bin/schemathesis");
    let works = folder.join("installed").exists()
        && Command::new(&program)
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success());
    match works {
        true => Ok(program),
        false => Err(format!(
            "schemathesis is not installed in {}; run {SETUP}",
            folder.display()
        )),
    }
}

/// Fuzzes a console; `token` is sent with each request, `settings` is the fuzzer's configuration. Fails with its report if an answer was
/// not as described.
fn fuzz(served: &Served, token: Option<&str>, examples: &str, settings: &str) {
    let program = match installed() {
        Ok(program) => program,
        Err(why) => {
            // Not by a macro: a test that passes would not show it.
            let mut errors = std::io::stderr();
            errors.write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
            return;
        }
    };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("schemathesis.toml"), settings).unwrap();
    let mut command = Command::new(program);
    command
        .current_dir(dir.path())
        .arg("run")
        .arg(format!("http://{}/api/v1/openapi.json", served.address))
        .args(["--checks", "all", "--mode", "all", "--no-color"])
        .args(["--include-path-regex", CHECKED])
        .args(["--seed", SEED, "--max-examples", examples, "--continue-on-failure"])
        .args(["--request-timeout", "60", "--suppress-health-check", "all"])
        .env_remove("SCHEMATHESIS_HOOKS")
        .env("NO_PROXY", "*");
    if let Some(token) = token {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let checked = Regex::new(CHECKED).unwrap();
    let api = served.routes.iter().filter(|route| route.path.starts_with("/api/"));
    let (all, selected) = (
        api.clone().count(),
        api.filter(|route| checked.is_match(route.path)).count(),
    );
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains(&format!("Selected: {selected}/{all} Tested: {selected} ")),
        "{text}"
    );
}

fn token(served: &Served, role: Role) -> String {
    let new = NewToken {
        name: "fuzzer-of-this-test",
        role,
        groups: BTreeSet::new(),
        made_by: "admin",
        expires_at: None,
    };
    served.accounts().add_token(&new).unwrap().to_string()
}

#[test]
fn the_api_answers_an_administrators_program_as_it_is_described() {
    let served = Served::with_users();
    let case = served.file_case(1, "street-a", true);
    let token = token(&served, Role::Admin);
    // Nothing in the API makes a case, so the fuzzer could not find one. The other runs ask for any.
    let settings = format!(
        "[[operations]]\ninclude-path = \"/api/v1/cases/{{id}}\"\nparameters = {{ id = \"{case}\" }}\n\
         [[operations]]\ninclude-path = \"/api/v1/cases/{{id}}/evidence/{{item}}\"\nparameters = {{ id = \"{case}\", item = \"e0\" }}\n"
    );
    fuzz(&served, Some(&token), MANY, &settings);
    let mut program = served.browser().with("Authorization", &format!("Bearer {token}"));
    assert_eq!(
        program.get("/api/v1/users").status,
        200,
        "the fuzzer has not locked itself out"
    );
}

#[test]
fn the_api_answers_a_viewers_program_as_it_is_described() {
    let served = Served::with_users();
    served.file_case(1, "street-b", true);
    let token = token(&served, Role::Viewer);
    fuzz(&served, Some(&token), FEW, "");
}

#[test]
fn the_api_answers_as_it_is_described_on_a_box_without_users() {
    let served = Served::start();
    served.file_case(1, "street-a", true);
    fuzz(&served, None, FEW, "");
}
