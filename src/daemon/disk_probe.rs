//! Whether the state directory's disk has room for a case, and takes it: what `/readyz` says before a case fails for it.

use std::{fs, io, path::Path};

use gridwatch_base::{message, message::Message};

/// Pictures of a case, and about as much for its record and the database.
const PICTURES_PER_CASE: u64 = 4;

/// What stands against storing a case in `state_dir` now; its pictures have up to `max_picture_bytes` each.
pub(super) fn storage_fault(state_dir: &Path, max_picture_bytes: usize) -> Option<Message> {
    let evidence = state_dir.join("evidence");
    let place = match fs::metadata(&evidence) {
        Ok(found) if found.is_dir() => evidence.as_path(),
        Ok(_) => {
            return Some(message!(
                "{path} is not a directory, so no picture can be stored; move it away",
                path = evidence.display().to_string()
            ));
        }
        // Created with the first picture.
        Err(e) if e.kind() == io::ErrorKind::NotFound => state_dir,
        Err(e) => return Some(format!("{}: {e}", evidence.display()).into()),
    };
    let needed = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if let Err(e) = rustix::fs::access(place, needed) {
        let path = place.display().to_string();
        return Some(message!("{path} is not writable: {e}", path, e = e.to_string()));
    }
    match rustix::fs::statvfs(place) {
        Ok(disk) => shortage(
            place,
            disk.f_bavail.saturating_mul(disk.f_frsize),
            max_picture_bytes as u64 * PICTURES_PER_CASE,
        ),
        Err(e) => Some(message!(
            "{path}: cannot read the free space: {e}",
            path = place.display().to_string(),
            e = e.to_string()
        )),
    }
}

fn shortage(place: &Path, free: u64, needed: u64) -> Option<Message> {
    (free < needed).then(|| {
        message!(
            "disk full: {path} has {free} bytes free, but a case needs {needed}; free disk space",
            path = place.display().to_string(),
            free,
            needed
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_for_a_case_is_a_fault() {
        let place = Path::new("/state");
        assert_eq!(shortage(place, 1_600_000, 1_600_000), None);
        assert_eq!(
            shortage(place, 0, 1_600_000).unwrap(),
            "disk full: /state has 0 bytes free, but a case needs 1600000; free disk space"
        );
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(storage_fault(dir.path(), 1), None);
        let fault = storage_fault(dir.path(), usize::MAX / 4).unwrap();
        assert!(fault.starts_with("disk full: "), "{fault}");
    }

    #[test]
    fn an_evidence_directory_that_is_a_file_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let evidence = dir.path().join("evidence");
        fs::create_dir(&evidence).unwrap();
        assert_eq!(storage_fault(dir.path(), 1), None);
        fs::remove_dir(&evidence).unwrap();
        fs::write(&evidence, "").unwrap();
        let fault = storage_fault(dir.path(), 1).unwrap();
        assert!(fault.contains("evidence is not a directory"), "{fault}");
    }
}
