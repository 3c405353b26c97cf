//! The JSON API against schemathesis, a fuzzer that makes requests from the OpenAPI document and checks that the answers are as described.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use gridwatch_base::digest::sha256_hex;
use gridwatch_config::raw;
use gridwatch_web::{Role, accounts::NewToken};
use serde_json::{Map, Value, json};

use crate::{street::Served, system_models};

const SETUP: &str = "crates/console/tests/schemathesis/setup.sh";

/// The same requests in each run, so that a failure can be looked into.
const SEED: &str = "19";

/// How much of the fuzzer's work is done.
#[derive(Clone, Copy)]
enum Effort {
    /// All phases: each limit of each parameter, random data, and operations in a row.
    Thorough,
    /// Some random data: where most of it is refused, or answered as in a thorough run.
    Short,
}

impl Effort {
    /// With these a run takes about a minute on two idle cores, most of it in the fuzzer.
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Thorough => ["--phases", "coverage,fuzzing,stateful", "--max-examples", "10"],
            Self::Short => ["--phases", "fuzzing", "--max-examples", "5"],
        }
    }
}

/// Operations that are not fuzzed: a request for live video has no end.
const NOT_FUZZED: [&str; 1] = ["/api/v1/views/{view}/live.mp4"];

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

/// What the fuzzer accepts, for a request that is as described, besides its own list: 422 is for what no schema can say.
const SETTINGS: &str = r#"
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429"]
"#;

/// Fuzzes a console; `token` is sent with each request, `case` is one that is filed. Fails with its report if an answer was not as described.
fn fuzz(served: &Served, token: Option<&str>, case: &str, effort: Effort) {
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
    fs::write(dir.path().join("schemathesis.toml"), SETTINGS).unwrap();
    let package = dir.path().join("package.tar");
    fs::write(&package, system_models::package("2.0.0")).unwrap();
    let known = json!({
        "address": format!("http://{}", served.address),
        "headers": token.map_or_else(|| json!({}), |token| json!({ "Authorization": format!("Bearer {token}") })),
        "package": package,
        "paths": paths(served, case),
    });
    let mut command = Command::new(program);
    command
        .current_dir(dir.path())
        .arg("run")
        .arg(format!("http://{}/api/v1/openapi.json", served.address))
        .args(["--checks", "all", "--mode", "all", "--no-color"])
        .args(NOT_FUZZED.iter().flat_map(|path| ["--exclude-path", path]))
        .args(["--seed", SEED, "--continue-on-failure"])
        .args(effort.arguments())
        .args(["--request-timeout", "60", "--suppress-health-check", "all"])
        .env(
            "SCHEMATHESIS_HOOKS",
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis/hooks.py"),
        )
        .env("GRIDWATCH_FUZZED", known.to_string())
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
    let api = served.routes.iter().filter(|route| route.path.starts_with("/api/"));
    let (all, selected) = (
        api.clone().count(),
        api.filter(|route| !NOT_FUZZED.contains(&route.path)).count(),
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

/// Ids in the paths of operations, by which the fuzzer gets past "not found".
fn paths(served: &Served, case: &str) -> Value {
    let mut paths = Map::new();
    for route in served.routes.iter().filter(|route| route.path.starts_with("/api/")) {
        let ids = match route.path.split('/').nth(3) {
            Some("views") => json!({ "view": "street-a" }),
            Some("cases") => json!({ "id": case, "item": "e0" }),
            Some("rules") => json!({ "id": "garbage" }),
            Some("models") => json!({ "id": "garbage_nano_416" }),
            Some("schedules") => json!({ "id": "market" }),
            Some("configuration") => json!({ "id": 1 }),
            // Not one that the other operations ask for.
            Some("cameras") => json!({ "name": "square-c" }),
            Some("users") => json!({ "name": "east" }),
            _ => continue,
        };
        paths.insert(route.path.into(), ids);
    }
    Value::Object(paths)
}

/// With a schedule, a ledger and the case in it, whose id is returned.
fn with_records(served: &Served) -> String {
    let cases = served.record(None);
    cases[0].id.to_string()
}

fn with_schedule(file: &mut raw::File) {
    let schedule = "id = \"market\"\nwindows = [{ from = \"06:00\", to = \"09:00\" }]";
    file.schedules.push(toml::from_str(schedule).unwrap());
}

#[test]
fn the_api_answers_an_administrators_program_as_it_is_described() {
    let served = Served::with_users_and(with_schedule);
    let case = with_records(&served);
    let token = token(&served, Role::Admin);
    fuzz(&served, Some(&token), &case, Effort::Thorough);
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
    let case = served.file_case(1, "street-b", true);
    let token = token(&served, Role::Viewer);
    fuzz(&served, Some(&token), &case, Effort::Short);
}

#[test]
fn the_api_answers_as_it_is_described_on_a_box_without_users_and_without_a_ledger() {
    let served = Served::start();
    let case = served.file_case(1, "street-a", true);
    fuzz(&served, None, &case, Effort::Short);
}
