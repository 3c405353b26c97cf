//! Whether other users may change what the daemon keeps: models, learned views, cases.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::{CheckRow, CheckState};

/// Maximum number of paths named.
const MAX_NAMED: usize = 3;

/// A warning if the group or others may write to the state directory or to what is directly in it.
pub(super) fn row(state_dir: &Path) -> Option<CheckRow> {
    let entries = fs::read_dir(state_dir).into_iter().flatten().flatten();
    let mut open: Vec<String> = std::iter::once(state_dir.to_path_buf())
        .chain(entries.map(|entry| entry.path()))
        .filter_map(|path| {
            let metadata = fs::symlink_metadata(&path).ok()?;
            // The mode of a link has no meaning.
            let is_open = !metadata.is_symlink() && metadata.mode() & 0o022 != 0;
            is_open.then(|| format!("{} (mode {:04o})", path.display(), metadata.mode() & 0o777))
        })
        .collect();
    if open.is_empty() {
        return None;
    }
    open.sort();
    let more = open.len().saturating_sub(MAX_NAMED);
    open.truncate(MAX_NAMED);
    let mut named = open.join(", ");
    if more > 0 {
        named += &format!(" and {more} more");
    }
    Some(
        CheckRow::new(
            "permissions",
            CheckState::Warning,
            format!("other users can change cases, models or learned views: {named}"),
        )
        .remedy(format!("run: chmod -R go= {}", state_dir.display())),
    )
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_state_directory_that_others_can_write_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger");
        fs::create_dir(&ledger).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        set(dir.path(), 0o755);
        set(&ledger, 0o755);
        assert_eq!(row(dir.path()), None);
        assert_eq!(row(&dir.path().join("none")), None);
        set(&ledger, 0o777);
        let found = row(dir.path()).unwrap();
        assert_eq!(found.state, CheckState::Warning);
        assert!(
            found.message.ends_with(&format!("{} (mode 0777)", ledger.display())),
            "{}",
            found.message
        );
    }
}
