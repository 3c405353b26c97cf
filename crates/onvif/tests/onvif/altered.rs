//! The fuzz targets on their corpora and on alterations of them. `make fuzz` runs them for as long as wanted.

use std::{fs, path::Path, sync::LazyLock};

use gridwatch_onvif::fuzzing;
use proptest::prelude::*;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

static ANSWERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus("onvif_answer"));
static MATCHES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus("onvif_discovery"));

/// A place in a file, what is taken out there, and what is put in.
fn cuts() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, Vec<u8>)>> {
    let inserted = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        "(<a|</|/>|>|&|;|<!\\[CDATA\\[|\\]\\]>|<!--|token=\"|Width>|-1|9e99|http://u:p@h/|onvif://www.onvif.org/name/%1b)".prop_map(String::into_bytes),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, inserted), 0..6)
}

fn altered(file: &[u8], cuts: &[(prop::sample::Index, usize, Vec<u8>)]) -> Vec<u8> {
    let mut data = file.to_vec();
    for (at, taken, inserted) in cuts {
        let at = at.index(data.len() + 1);
        let end = (at + taken).min(data.len());
        data.splice(at..end, inserted.iter().copied());
    }
    data
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn altered_answers_are_read_or_refused(file in any::<prop::sample::Index>(), cuts in cuts()) {
        fuzzing::answer(&altered(file.get::<Vec<u8>>(&ANSWERS), &cuts));
    }

    #[test]
    fn altered_matches_are_read_or_refused(file in any::<prop::sample::Index>(), cuts in cuts()) {
        fuzzing::discovery(&altered(file.get::<Vec<u8>>(&MATCHES), &cuts));
    }
}

#[test]
fn the_corpora_are_what_the_targets_read() {
    for file in ANSWERS.iter().chain(MATCHES.iter()) {
        assert!(gridwatch_onvif::xml::Element::parse(file).is_ok());
    }
}
