use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn add(accounts: &Accounts, name: &str, role: Role) -> Result<(), AccountError> {
    accounts.add(&NewUser {
        name,
        role,
        groups: BTreeSet::new(),
        password: Some(&Secret::new("long enough 1")),
    })
}

#[test]
fn users_are_stored_for_the_owner_only_and_without_their_passwords() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = Accounts::of(dir.path());
    assert!(accounts.users().unwrap().is_empty());
    add(&accounts, "wang", Role::Admin).unwrap();
    let path = dir.path().join(USERS_FILE);
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("long enough") && text.contains("$argon2id$"), "{text}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let users = accounts.users().unwrap();
    assert!(users[0].has_password() && !format!("{users:?}").contains("argon2"));
}

#[test]
fn another_process_sees_a_change_and_a_new_password_ends_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let (daemon, command) = (Accounts::of(dir.path()), Accounts::of(dir.path()));
    add(&command, "wang", Role::Admin).unwrap();
    let before = daemon.snapshot().unwrap().user("wang").unwrap().stamp().to_owned();
    command.set_password("wang", &Secret::new("another long one")).unwrap();
    assert_ne!(daemon.snapshot().unwrap().user("wang").unwrap().stamp(), before);
}

#[test]
fn the_last_administrator_stays_as_long_as_there_are_users() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = Accounts::of(dir.path());
    add(&accounts, "wang", Role::Admin).unwrap();
    add(&accounts, "li", Role::Viewer).unwrap();
    let none = BTreeSet::new();
    assert!(matches!(accounts.remove("wang"), Err(AccountError::LastAdmin(_))));
    assert!(matches!(
        accounts.set_role("wang", Role::Viewer, Some(&none)),
        Err(AccountError::LastAdmin(_))
    ));
    accounts.remove("li").unwrap();
    accounts.remove("wang").unwrap();
    assert!(accounts.users().unwrap().is_empty());
}

#[test]
fn the_first_user_is_an_administrator_with_a_password_and_groups_stay_unless_others_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = Accounts::of(dir.path());
    assert!(matches!(
        add(&accounts, "li", Role::Operator),
        Err(AccountError::FirstUser)
    ));
    let proxied = NewUser {
        name: "wang",
        role: Role::Admin,
        groups: BTreeSet::new(),
        password: None,
    };
    assert!(matches!(accounts.add(&proxied), Err(AccountError::FirstUser)));
    add(&accounts, "wang", Role::Admin).unwrap();
    let east = BTreeSet::from(["east".to_owned()]);
    accounts
        .add(&NewUser {
            name: "li",
            role: Role::Viewer,
            groups: east.clone(),
            ..proxied
        })
        .unwrap();
    accounts.set_role("li", Role::Operator, None).unwrap();
    let li = accounts.users().unwrap().pop().unwrap();
    assert_eq!((li.role, &li.groups), (Role::Operator, &east));
    accounts.set_role("li", Role::Operator, Some(&BTreeSet::new())).unwrap();
    assert!(accounts.users().unwrap().pop().unwrap().groups.is_empty());
}

#[test]
fn unusable_names_groups_and_passwords_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = Accounts::of(dir.path());
    for name in ["", "a b", "a/b", "a\n", "../x", "<b>", &"x".repeat(65)] {
        assert!(
            matches!(add(&accounts, name, Role::Viewer), Err(AccountError::BadName(_))),
            "{name:?}"
        );
    }
    add(&accounts, "王伟", Role::Admin).unwrap();
    assert!(matches!(
        add(&accounts, "王伟", Role::Viewer),
        Err(AccountError::Exists(_))
    ));
    for password in ["short", &"x".repeat(257), "王伟"] {
        let refused = accounts.set_password("王伟", &Secret::new(password));
        assert!(matches!(refused, Err(AccountError::BadPassword)), "{password}");
    }
    let groups = BTreeSet::from(["a b".to_owned()]);
    assert!(matches!(
        accounts.set_role("王伟", Role::Admin, Some(&groups)),
        Err(AccountError::BadGroup(_))
    ));
    // It could be lifted by who has it.
    let east = BTreeSet::from(["east".to_owned()]);
    assert!(matches!(
        accounts.set_role("王伟", Role::Admin, Some(&east)),
        Err(AccountError::AdminGroups)
    ));
    assert!(matches!(accounts.remove("li"), Err(AccountError::Unknown(_))));
}

#[test]
fn a_token_is_recognised_until_it_ends_or_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = Accounts::of(dir.path());
    let end = Timestamp::from_second(2_000_000_000).unwrap();
    let token = accounts
        .add_token(&NewToken {
            name: "dashboard",
            role: Role::Viewer,
            groups: BTreeSet::new(),
            made_by: "wang",
            expires_at: Some(end),
        })
        .unwrap();
    let text = fs::read_to_string(dir.path().join(USERS_FILE)).unwrap();
    assert!(!text.contains(token.as_str()));
    let snapshot = accounts.snapshot().unwrap();
    let before = Timestamp::from_second(1_999_999_999).unwrap();
    assert_eq!(
        snapshot.token(&token, before).map(|t| t.name.as_str()),
        Some("dashboard")
    );
    assert!(snapshot.token(&token, end).is_none() && snapshot.token("gw_other", before).is_none());
    accounts.remove_token("dashboard").unwrap();
    assert!(accounts.snapshot().unwrap().token(&token, before).is_none());
}

#[test]
fn a_damaged_file_is_an_error_and_not_an_empty_list() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = Accounts::of(dir.path());
    add(&accounts, "wang", Role::Admin).unwrap();
    fs::write(
        dir.path().join(USERS_FILE),
        "{\"version\":1,\"users\":[{\"name\":\"secret-hash\"",
    )
    .unwrap();
    let error = accounts.users().unwrap_err();
    assert!(
        matches!(error, AccountError::Damaged { .. }) && !error.to_string().contains("secret-hash"),
        "{error}"
    );
    assert!(
        add(&accounts, "li", Role::Admin).is_err(),
        "a change must not replace what may be restored"
    );
}

#[test]
fn changes_at_the_same_time_do_not_lose_each_other() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for i in 0..4 {
            let dir = dir.path();
            scope.spawn(move || add(&Accounts::of(dir), &format!("user{i}"), Role::Admin).unwrap());
        }
    });
    assert_eq!(Accounts::of(dir.path()).users().unwrap().len(), 4);
}
