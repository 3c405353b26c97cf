//! The JSON API and its description.

use gridwatch_web::{Role, accounts::NewToken};
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{http::Client, street::Served};

fn with_token(served: &Served, role: Role, expires_at: Option<Timestamp>) -> Client {
    let name = format!("program-{role}-{}", expires_at.is_some());
    let groups = BTreeSet::new();
    let token = NewToken {
        name: &name,
        role,
        groups,
        made_by: "admin",
        expires_at,
    };
    let token = served.accounts().add_token(&token).unwrap();
    served.browser().with("Authorization", &format!("Bearer {}", *token))
}

#[test]
fn a_program_reads_views_and_cases_with_a_token() {
    let served = Served::with_users();
    let id = served.file_case(1, "street-a", true);
    let mut program = with_token(&served, Role::Viewer, None);
    let views = program.get("/api/v1/views").json();
    assert_eq!(views[0]["look"]["detections"][0]["label"], "garbage");
    assert_eq!(
        views[0]["look"]["detections"][0]["bbox"],
        serde_json::json!([0.25, 0.5, 0.5, 0.75])
    );
    assert_eq!(
        program.get("/api/v1/cases?open=true&limit=5").json()[0]["case_id"],
        id.as_str()
    );
    assert_eq!(
        program.get(&format!("/api/v1/cases/{id}")).json()["category_code"],
        "0102"
    );
    assert_eq!(
        program
            .get(&format!("/api/v1/cases/{id}/evidence/e0"))
            .header("content-type"),
        Some("image/jpeg")
    );
    assert_eq!(
        program.get("/api/v1/views/street-a/picture").header("content-type"),
        Some("image/jpeg")
    );
    assert_eq!(program.get("/api/v1/status").json()["ready"], true);
    let old = Timestamp::from_second(1_700_000_000).unwrap();
    assert_eq!(
        with_token(&served, Role::Admin, Some(old)).get("/api/v1/views").status,
        401
    );
    let mut wrong = served.browser().with("Authorization", "Bearer gw_wrong");
    assert_eq!(wrong.get("/api/v1/views").status, 401);
    // A wrong token is not made up for by a session.
    wrong.cookies = served.logged_in("admin").cookies;
    assert_eq!(wrong.get("/api/v1/views").status, 401);
}

#[test]
fn changes_by_a_token_need_no_code_and_changes_by_a_session_do() {
    let served = Served::with_users();
    let mut program = with_token(&served, Role::Operator, None);
    assert_eq!(program.send("POST", "/api/v1/views/street-a/look", "", b"").status, 204);
    assert_eq!(program.send("DELETE", "/api/v1/users/viewer", "", b"").status, 403);
    let mut admin = served.logged_in("admin");
    assert_eq!(admin.send("DELETE", "/api/v1/users/viewer", "", b"").status, 403);
    let code = admin.get("/users").csrf();
    let mut admin = admin.with("X-CSRF-Token", &code);
    assert_eq!(admin.send("DELETE", "/api/v1/users/viewer", "", b"").status, 204);
    assert_eq!(admin.send("DELETE", "/api/v1/users/viewer", "", b"").status, 404);
    let body = br#"{"name":"li","role":"viewer","password":"long enough password"}"#;
    assert_eq!(
        admin.send("POST", "/api/v1/users", "application/json", body).status,
        204
    );
    let users = admin.get("/api/v1/users");
    assert!(
        users.contains("\"li\"") && !users.contains("argon2"),
        "{}",
        users.text()
    );
    for wrong in [
        "{",
        "[]",
        "{\"name\":1}",
        "{\"name\":\"x\",\"role\":\"king\"}",
        "{\"name\":\"x\",\"role\":\"viewer\",\"a\":1}",
    ] {
        let answer = admin.send("POST", "/api/v1/users", "application/json", wrong.as_bytes());
        assert_eq!(answer.status, 400, "{wrong}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{wrong}"
        );
    }
}

#[test]
fn errors_are_problem_documents() {
    let served = Served::start();
    let mut browser = served.browser();
    for (path, status) in [
        ("/api/v1/views/nowhere", 404),
        ("/api/v1/nowhere", 404),
        ("/api/v1/cases?limit=0", 400),
        ("/api/v1/cases?state=x", 400),
        ("/api/v1/cases?from=yesterday", 400),
        ("/api/v1/cases/%ff", 400),
    ] {
        let answer = browser.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{path}"
        );
        let problem = answer.json();
        assert_eq!(
            (problem["status"].as_u64(), problem["type"].as_str()),
            (Some(status.into()), Some("about:blank"))
        );
    }
    let method = browser.send("DELETE", "/api/v1/views", "", b"");
    assert_eq!(
        (method.status, method.header("content-type")),
        (405, Some("application/problem+json"))
    );
    assert_eq!(method.header("allow"), Some("GET,HEAD"));
}

#[test]
fn the_description_has_every_operation_and_only_references_that_resolve() {
    let served = Served::start();
    let document = served.browser().get("/api/v1/openapi.json").json();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(move |m| (m.to_uppercase(), path.clone()))
        })
        .collect();
    let served_operations = served.routes.iter().filter(|route| route.path.starts_with("/api/"));
    let served_operations: BTreeSet<_> = served_operations
        .map(|r| (r.method.clone(), r.path.to_owned()))
        .collect();
    assert_eq!(described, served_operations);
    let mut ids = BTreeMap::new();
    let text = document.to_string();
    for reference in text
        .split("\"$ref\":\"#")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
    {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    for (path, methods) in document["paths"].as_object().unwrap() {
        for operation in methods.as_object().unwrap().values() {
            let before = ids.insert(operation["operationId"].as_str().unwrap().to_owned(), path.clone());
            assert!(before.is_none(), "{operation}");
            assert!(operation["responses"].as_object().unwrap().contains_key("403"));
        }
    }
}
