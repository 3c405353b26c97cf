//! The file of advert words: its faults, and the words as the reader uses them.

use std::{collections::BTreeSet, path::Path};

use super::{Checker, FieldPath, prefixed};
use crate::{Fault, Faults, raw, schema::MESSAGES};
use gridwatch_base::{
    document::{Document, schema},
    file, message,
};
use gridwatch_model::ocr::{
    Phrasebook,
    phrases::{self, Banner, IdForm, Messenger, Notices, Trade},
};

/// Reads a file of advert words; returns its bytes, too.
pub(crate) fn read(file: &Path) -> Result<(Vec<u8>, Phrasebook), Faults> {
    parse(Document::read(file))
}

fn parse(document: Result<(Document, Vec<Fault>), Vec<Fault>>) -> Result<(Vec<u8>, Phrasebook), Faults> {
    let (document, mut faults) = document.map_err(Faults)?;
    let sanitized = schema::check::<raw::Adverts>(&document, &MESSAGES, &mut faults);
    let adverts = serde_json::from_value::<raw::Adverts>(sanitized.value).ok();
    if let Some(adverts) = &adverts {
        check(adverts, &document, &mut faults);
    }
    match adverts {
        Some(adverts) if faults.is_empty() => Ok((document.bytes, adverts.phrasebook())),
        _ => {
            faults.sort_by_key(|f: &Fault| f.line);
            Err(Faults(faults))
        }
    }
}

fn check(adverts: &raw::Adverts, document: &Document, faults: &mut Vec<Fault>) {
    let whole = FieldPath::default();
    let trades = adverts.trades.iter().map(|t| (t.id.as_str(), "phrases", &t.phrases));
    let messengers = adverts.messengers.iter().map(|m| (m.id.as_str(), "words", &m.words));
    let lists: [(&str, Vec<_>); 2] = [("trades", trades.collect()), ("messengers", messengers.collect())];
    for (list, entries) in lists {
        let mut ids = BTreeSet::new();
        for (i, (id, key, words)) in entries.into_iter().enumerate() {
            let at = whole.key(list).index(i);
            if !ids.insert(id) {
                let message = message!("{id} is already used", id = format!("{id:?}"));
                faults.push(document.fault(&at.key("id"), message, "give each entry an id of its own"));
            }
            check_words(&at.key(key), words, document, faults);
        }
    }
    check_words(&whole.key("notices"), &adverts.notices, document, faults);
}

fn check_words(at: &FieldPath, words: &[String], document: &Document, faults: &mut Vec<Fault>) {
    for (i, word) in words.iter().enumerate() {
        if phrases::normalised(word).len() < 2 {
            let message = message!(
                "{word} has fewer than two letters or digits, and would be found anywhere",
                word = format!("{word:?}")
            );
            faults.push(document.fault(&at.index(i), message, "use a longer word, or remove it"));
        }
    }
}

impl raw::Adverts {
    fn phrasebook(&self) -> Phrasebook {
        let form = |form| match form {
            raw::MessengerForm::Letters => IdForm::Letters,
            raw::MessengerForm::Digits => IdForm::Digits,
        };
        let trades = self.trades.iter().map(|t| Trade::new(&t.id, &t.zh, &t.en, &t.phrases));
        let messengers = self.messengers.iter();
        Phrasebook {
            trades: trades.collect(),
            messengers: messengers
                .map(|m| Messenger::new(&m.id, form(m.form), &m.words))
                .collect(),
            banner: self.banner.map_or_else(Banner::default, |b| Banner {
                min_chars: b.min_chars as usize,
                min_aspect: b.min_aspect,
            }),
            notices: Notices::new(&self.notices),
        }
    }
}

impl Checker<'_> {
    /// Reads the words that the configuration names at `at`; none if it names no file, or the file is faulty.
    pub(super) fn phrasebook(&mut self, at: &FieldPath, path: Option<&Path>) -> Phrasebook {
        let Some(path) = path else { return Phrasebook::default() };
        let bytes = self.read_source(at, path, file::MAX_TEXT);
        let what = "the file of advert words, such as adverts/default.toml";
        if self.existing_file(at, path, what).is_none() {
            return Phrasebook::default();
        }
        match parse(Document::of(&self.resolve(path), bytes)) {
            Ok((bytes, phrasebook)) => {
                self.draft.rest.data_files.extend(bytes);
                phrasebook
            }
            Err(Faults(faults)) => {
                self.draft.faults.extend(faults.into_iter().map(|f| prefixed(at, f)));
                Phrasebook::default()
            }
        }
    }
}
