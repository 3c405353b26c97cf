//! Names of the Prometheus metrics, in one place because dashboards and alerts depend on them. The daemon describes each
//! of them at its start.

/// Looks that were judged, by camera and view.
pub const LOOKS: &str = "gridwatch_looks_total";
/// Looks that could not be judged, by camera and reason.
pub const LOOKS_FAILED: &str = "gridwatch_looks_failed_total";
/// When the newest look was, by camera.
pub const LAST_LOOK: &str = "gridwatch_last_look_timestamp_seconds";
/// Whether the camera was moved.
pub const VIEW_MOVED: &str = "gridwatch_view_moved";
/// How late looks start.
pub const LATENESS: &str = "gridwatch_look_lateness_seconds";
/// How much every period is stretched.
pub const STRETCH: &str = "gridwatch_schedule_stretch";
/// Decode time.
pub const DECODE: &str = "gridwatch_decode_seconds";
/// Detect time, by model.
pub const DETECT: &str = "gridwatch_detect_seconds";
/// The same for a closer look before a case is filed.
pub const LOOK_CLOSER: &str = "gridwatch_look_closer_seconds";
/// Which versions look, by model and version.
pub const MODEL_LIVE: &str = "gridwatch_model_live";
/// What became of versions, by model and change.
pub const MODEL_CHANGES: &str = "gridwatch_model_changes_total";
/// How far a trial is, by model.
pub const MODEL_TRIAL_LOOKS: &str = "gridwatch_model_trial_looks";
/// Keyframe interval, by camera.
pub const KEYFRAME_INTERVAL: &str = "gridwatch_keyframe_interval_seconds";
/// Camera state, by camera and state: 1 for the one it is in.
pub const CAMERA_STATE: &str = "gridwatch_camera_state";
/// Candidates that did not become a case, by camera, rule and reason.
pub const NOT_FILED: &str = "gridwatch_candidates_not_filed_total";
/// What happened to things that are followed, by camera, rule and reason.
pub const PRESENCE: &str = "gridwatch_presence_total";
/// Problems that wait for another day's room.
pub const WAITING: &str = "gridwatch_candidates_waiting";
/// Cases, by rule.
pub const CASES: &str = "gridwatch_cases_total";
/// Answers of the platform that do not fit the case, by answer.
pub const REPLIES_REFUSED: &str = "gridwatch_replies_refused_total";
/// Cases that were looked at again, by finding.
pub const VERIFIED: &str = "gridwatch_verified_total";
/// Inputs that are missing from the ledger.
pub const LEDGER_LOST: &str = "gridwatch_ledger_records_lost_total";
/// RTP packets that never came, by camera.
pub const LOST_PACKETS: &str = "gridwatch_rtp_packets_lost_total";
/// Keyframes that were not whole, by camera.
pub const DAMAGED: &str = "gridwatch_keyframes_damaged_total";
/// Connections that ended, by camera.
pub const RECONNECTS: &str = "gridwatch_camera_reconnects_total";
/// Looks pinned as possible evidence.
pub const PINNED: &str = "gridwatch_pinned_looks";
/// From confirmed to committed.
pub const COMMIT: &str = "gridwatch_confirm_to_commit_seconds";
