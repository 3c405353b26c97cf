//! Commands that moved to `gridwatch-lab` say where they went.

use std::process::Command;

#[test]
fn a_moved_command_names_its_new_program() {
    for name in ["demo", "bench", "simulate"] {
        let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args([name, "--json"])
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(&format!("`gridwatch-lab {name}`")), "{message}");
    }
}
