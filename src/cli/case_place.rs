//! Where a case was seen, from its record.

use gridwatch_contract::{CaseRecord, EvidenceRole};
use gridwatch_engine::BBox;

/// Id of the view that filed the case: `CAMERA`, or `CAMERA.PRESET`.
pub(super) fn view_of(record: &CaseRecord) -> String {
    let camera = &record.camera;
    match &camera.preset_id {
        Some(preset) => format!("{}.{preset}", camera.local_id),
        None => camera.local_id.clone(),
    }
}

/// The object's box when the case was confirmed, as fractions of the picture. `None` if the record has no picture with a size.
pub(super) fn box_of(record: &CaseRecord) -> Option<BBox> {
    let mut pictures = record.evidence.iter();
    let scene = pictures.rfind(|e| e.role == EvidenceRole::Scene && e.width > 0 && e.height > 0)?;
    let [x1, y1, x2, y2] = record.extent.bbox_px.map(|v| v as f32);
    let (w, h) = (scene.width as f32, scene.height as f32);
    Some(BBox {
        x1: x1 / w,
        y1: y1 / h,
        x2: x2 / w,
        y2: y2 / h,
    })
}
