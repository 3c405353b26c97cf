//! The names of the Prometheus metrics, which dashboards and alerts depend on. The daemon describes them at its start.

/// Looks, by camera and view.
pub const LOOKS: &str = "gridwatch_looks_total";
/// Looks that failed, by camera and reason.
pub const LOOKS_FAILED: &str = "gridwatch_looks_failed_total";
/// Capture time of the newest look, by camera (Unix seconds).
pub const LAST_LOOK: &str = "gridwatch_last_look_timestamp_seconds";
/// 1 while the camera points away from its learned view, or misses the preset; by camera.
pub const VIEW_MOVED: &str = "gridwatch_view_moved";
/// Time from a look being due to its start.
pub const LATENESS: &str = "gridwatch_look_lateness_seconds";
/// Factor by which look periods are stretched under overload.
pub const STRETCH: &str = "gridwatch_schedule_stretch";
/// Time to decode a keyframe.
pub const DECODE: &str = "gridwatch_decode_seconds";
/// Detection time, by model.
pub const DETECT: &str = "gridwatch_detect_seconds";
/// Time to compare a look with its view's background.
pub const CHANGE: &str = "gridwatch_change_seconds";
/// Looks compared with their view's background, by camera and state.
pub const CHANGE_LOOKS: &str = "gridwatch_change_looks_total";
/// New regions reported, by camera and what explains them.
pub const NEW_REGIONS: &str = "gridwatch_new_regions_total";
/// Detection time of second looks, by model.
pub const SECOND_LOOK: &str = "gridwatch_look_closer_seconds";
/// Detection time of crops around new regions, by model.
pub const CLOSE_LOOK: &str = "gridwatch_close_look_seconds";
/// 1 for live versions, by model and version.
pub const MODEL_LIVE: &str = "gridwatch_model_live";
/// Versions that went live, were refused or were rolled back, by model and change.
pub const MODEL_CHANGES: &str = "gridwatch_model_changes_total";
/// Looks of the newest trial or shadow run, by model.
pub const MODEL_TRIAL_LOOKS: &str = "gridwatch_model_trial_looks";
/// Keyframe interval, by camera.
pub const KEYFRAME_INTERVAL: &str = "gridwatch_keyframe_interval_seconds";
/// Camera state, by camera and state: 1 for the one it is in.
pub const CAMERA_STATE: &str = "gridwatch_camera_state";
/// Candidates that did not become a case, by camera, rule and reason.
pub const NOT_FILED: &str = "gridwatch_candidates_not_filed_total";
/// State changes of tracked candidates, by camera, rule and reason.
pub const PRESENCE: &str = "gridwatch_presence_total";
/// Confirmed problems held back by the daily cap.
pub const WAITING: &str = "gridwatch_candidates_waiting";
/// Cases filed, by rule.
pub const CASES: &str = "gridwatch_cases_total";
/// Replies that do not fit their case's state, by reply.
pub const REPLIES_REFUSED: &str = "gridwatch_replies_refused_total";
/// Verified cases, by finding.
pub const VERIFIED: &str = "gridwatch_verified_total";
/// Engine inputs that could not be written to the ledger.
pub const LEDGER_LOST: &str = "gridwatch_ledger_records_lost_total";
/// RTP packets lost, by camera.
pub const LOST_PACKETS: &str = "gridwatch_rtp_packets_lost_total";
/// Damaged keyframes, by camera.
pub const DAMAGED: &str = "gridwatch_keyframes_damaged_total";
/// Keyframes that ended a decode worker, by camera.
pub const DECODE_CRASHES: &str = "gridwatch_decode_crashes_total";
/// Reconnects, by camera.
pub const RECONNECTS: &str = "gridwatch_camera_reconnects_total";
/// Looks pinned as possible evidence.
pub const PINNED: &str = "gridwatch_pinned_looks";
/// Evidence pictures made, by whether they are masked.
pub const EVIDENCE_PICTURES: &str = "gridwatch_evidence_pictures_total";
/// Masked share of a whole evidence picture, 0 to 1.
pub const MASKED_SHARE: &str = "gridwatch_evidence_masked_share";
/// Time from the confirmation of a case to its commit.
pub const COMMIT: &str = "gridwatch_confirm_to_commit_seconds";

/// Gauge: 1 while a problem in front of the cameras would be filed, as `/readyz` says.
pub const READY: &str = "gridwatch_ready";
/// Counter: reloads of the configuration. Label: `outcome`: `applied`, `unchanged` or `rejected`.
pub const CONFIG_RELOADS: &str = "gridwatch_config_reloads_total";
/// Gauge: 1 while the configuration files were changed and have faults, so that the configuration before is in force.
pub const CONFIG_REJECTED: &str = "gridwatch_config_rejected";
/// Gauge: 1 while the MQTT link is connected and subscribed, otherwise 0.
pub const LINK_CONNECTED: &str = "gridwatch_link_connected";
/// Gauge: 1 for what keeps the link from publishing: `unreachable`, `unsuitable` or `duplicate_node_id`. Label: `problem`.
pub const LINK_PROBLEM: &str = "gridwatch_link_problem";
/// Gauge: outbox messages waiting to be published.
pub const OUTBOX_DEPTH: &str = "gridwatch_outbox_depth";
/// Gauge: outbox messages in quarantine, waiting for an operator.
pub const OUTBOX_QUARANTINED: &str = "gridwatch_outbox_quarantined";
/// Gauge: outbox messages by `state`: `queued`, `sent` (the broker acknowledged it, the platform gave no receipt yet), `missing` (a picture that
/// the platform does not have) and `quarantined`.
pub const OUTBOX_MESSAGES: &str = "gridwatch_outbox_messages";
/// Gauge: age in seconds of the oldest message that awaits the platform's receipt; 0 without one.
pub const OUTBOX_UNRECEIVED_SECONDS: &str = "gridwatch_outbox_unreceived_seconds";
/// Counter: outcomes of published outbox messages. Labels: `kind` (`case`, `evidence`) and `result` (`delivered`, `unheard`,
/// `refused`, `busy`, `lost`).
pub const PUBLISHES: &str = "gridwatch_publish_total";
/// Histogram: seconds from publishing an outbox message to its acknowledgement. Label: `kind`.
pub const PUBLISH_SECONDS: &str = "gridwatch_publish_seconds";
/// Counter: messages received on the reply topic. Label: `result` (`committed`, `not_committed`, `flood`, `limited`, or why
/// the message was rejected).
pub const REPLIES: &str = "gridwatch_replies_total";
/// Counter: receipts and announcements of the platform. Label: `result` (`received`, `repeated`, `missing`, `limited`, `unknown_case`,
/// `unknown_revision`, or why the message was rejected).
pub const RECEIPTS: &str = "gridwatch_receipts_total";
/// Counter: messages received on topics that the box does not subscribe to, as after `broker.share_sites` was switched off.
pub const MESSAGES_IGNORED: &str = "gridwatch_messages_ignored_total";
/// Counter: messages whose payload was skipped because they were too large.
pub const MESSAGES_OVERSIZED: &str = "gridwatch_messages_oversized_total";
/// Gauge: cases held back because another box claims their site.
pub const HELD_BACK: &str = "gridwatch_cases_held_back";
/// Counter: messages received on site topics that are not claims to obey, by reason.
pub const CLAIMS_REJECTED: &str = "gridwatch_claims_refused_total";
