//! What becomes of a case whose pictures cannot be masked. The mask model is a tiny network that finds a face in every picture but fails
//! on black ones (tests/fixtures/models/swap).

use std::fs;

use image::{Rgb, RgbImage};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::*;
use crate::daemon::{
    record::RecordBuilder,
    test_config::{demo_config, root},
};
use gridwatch_camera::Backend;
use gridwatch_model::{Model, TiledDetector, runtime};

#[path = "../../../tests/support/case.rs"]
mod case_support;

struct Fixture {
    _dir: tempfile::TempDir,
    records: Arc<RecordBuilder>,
    worker: EvidenceWorker,
    core: Sender<CoreEvent>,
    events: mpsc::Receiver<CoreEvent>,
}

impl Fixture {
    fn new(change: impl FnOnce(&mut evidence::Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let from = root().join("tests/fixtures/models/swap");
        let toml = fs::read_to_string(from.join("model.toml")).unwrap();
        fs::write(dir.path().join("model.toml"), toml.replace("\"garbage\"", "\"face\"")).unwrap();
        fs::copy(from.join("model.onnx"), dir.path().join("model.onnx")).unwrap();
        let runtime = runtime::init(None).unwrap_or_else(|e| panic!("{e}"));
        let model = Model::load(dir.path()).unwrap();
        let mut settings = evidence::Settings {
            jpeg_quality: 80,
            max_bytes: 400_000,
            min_interval: Duration::from_secs(10),
            mask: true,
            finds_persons: true,
            privacy: Vec::new(),
        };
        change(&mut settings);
        let (core, events) = mpsc::channel(8);
        Self {
            worker: EvidenceWorker {
                decoder: Decoder::new("evidence", Backend::Software).unwrap(),
                settings: BTreeMap::from([("gate".into(), settings)]),
                state_dir: dir.path().to_path_buf(),
                mask_detector: Some(MaskDetector {
                    detector: TiledDetector::new(&runtime, &[model]).unwrap(),
                    finds_persons: true,
                }),
                vault: None,
            },
            records: Arc::new(RecordBuilder::new(&Arc::new(demo_config(dir.path(), |_| {})))),
            _dir: dir,
            core,
            events,
        }
    }

    /// Tries the job of a case whose pictures have this brightness; returns the job if it is held back.
    fn try_case(&mut self, luma: u8) -> Option<PictureJob> {
        let case = case_support::case(1);
        let look = |at| {
            let frame = Frame::from_rgb(&RgbImage::from_pixel(64, 64, Rgb([luma; 3])), at).unwrap();
            PinnedFrame {
                picture: Picture::Frame(Arc::new(frame)),
                detections: [].into(),
                detected_by: [].into(),
            }
        };
        let job = PictureJob::Case {
            first: look(case.first_seen_at),
            confirming: look(case.confirmed_at),
            case: Box::new(case),
            records: Arc::clone(&self.records),
        };
        self.worker.try_job(job, &self.core)
    }
}

#[test]
fn the_pictures_of_a_case_are_masked() {
    let mut fixture = Fixture::new(|_| {});
    assert!(fixture.try_case(128).is_none());
    let Ok(CoreEvent::EvidenceReady { pictures, .. }) = fixture.events.try_recv() else {
        panic!("the case has no pictures");
    };
    assert!(pictures.len() == 5 && pictures.iter().all(|p| p.masked && p.masked_share > 0.0));
}

#[test]
fn a_mask_model_that_fails_holds_the_case_back_and_says_so() {
    let mut fixture = Fixture::new(|_| {});
    let held = fixture.try_case(0).expect("the case is held back");
    let Ok(CoreEvent::EvidenceDelayed { reason, is_disk_full }) = fixture.events.try_recv() else {
        panic!("the core was not told");
    };
    assert!(
        reason.contains("cannot mask the picture, so it is held back") && !is_disk_full,
        "{reason}"
    );
    // It is tried again until the model works, and nothing of it leaves the box before.
    let held = fixture.worker.try_job(held, &fixture.core);
    assert!(held.is_some());
    assert!(matches!(
        fixture.events.try_recv(),
        Ok(CoreEvent::EvidenceDelayed { .. })
    ));
    assert!(fixture.events.try_recv().is_err());
}

#[test]
fn a_case_without_a_model_for_persons_is_not_filed() {
    let mut fixture = Fixture::new(|settings| settings.finds_persons = false);
    assert!(fixture.try_case(128).is_none());
    assert!(matches!(
        fixture.events.try_recv(),
        Ok(CoreEvent::EvidenceFailed { .. })
    ));
    assert!(fixture.events.try_recv().is_err());
}

#[test]
fn with_masking_off_pictures_are_filed_as_unmasked() {
    let mut fixture = Fixture::new(|settings| {
        settings.mask = false;
        settings.finds_persons = false;
    });
    fixture.worker.mask_detector = None;
    assert!(fixture.try_case(128).is_none());
    let Ok(CoreEvent::EvidenceReady { pictures, .. }) = fixture.events.try_recv() else {
        panic!("the case has no pictures");
    };
    assert!(pictures.iter().all(|p| !p.masked && p.masked_share == 0.0));
}

/// What the console gets of a look; `finds_persons` says whether the look's models searched it for persons.
fn for_console(fixture: &mut Fixture, finds_persons: bool, kind: PictureKind) -> Result<Bytes, String> {
    let frame = Frame::from_rgb(&RgbImage::from_pixel(640, 360, Rgb([128; 3])), Timestamp::UNIX_EPOCH).unwrap();
    let request = EvidenceRequest {
        view: "gate".into(),
        picture: Picture::Frame(Arc::new(frame)),
        detections: [].into(),
        finds_persons,
        kind,
        answer: tokio::sync::oneshot::channel().0,
    };
    fixture.worker.make_for_console(&request).map_err(|e| e.to_string())
}

#[test]
fn the_console_gets_no_masked_picture_of_a_look_that_was_not_searched_for_persons() {
    let mut fixture = Fixture::new(|_| {});
    let masked = PictureKind::Full(Masking::Masked);
    assert!(
        for_console(&mut fixture, false, masked).is_ok(),
        "the mask model searches it"
    );
    fixture.worker.mask_detector = None;
    assert!(for_console(&mut fixture, true, masked).is_ok());
    let refused = for_console(&mut fixture, false, masked).unwrap_err();
    assert!(refused.contains("cannot mask the picture"), "{refused}");
    assert!(for_console(&mut fixture, false, PictureKind::Full(Masking::Unmasked)).is_ok());
    let width = |jpeg: Bytes| image::load_from_memory(&jpeg).unwrap().width();
    let thumbnail = for_console(&mut fixture, true, PictureKind::Thumbnail).unwrap();
    assert_eq!(width(thumbnail), 320);
    let coarse = for_console(&mut fixture, false, PictureKind::Thumbnail).unwrap();
    assert_eq!(width(coarse), 80, "nobody can be recognised in it");
}
