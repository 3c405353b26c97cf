//! The demo's platform: a subscriber that stores the pictures, accepts each case once by its `case_id`, and checks that all
//! pictures of a case have arrived with the bytes that their topics name.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rumqttc::{
    AsyncClient, Event, MqttOptions,
    mqttbytes::{QoS, v5::Packet},
};
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinHandle};

use gridwatch_base::digest::sha256_hex;
use gridwatch_contract::CaseRecord;

/// A received case.
#[derive(Debug, Serialize)]
pub(super) struct ReceivedCase {
    pub(super) case_id: String,
    pub(super) revision: u32,
    pub(super) category_code: String,
    pub(super) category_name: String,
    pub(super) cell_code: String,
    pub(super) camera: String,
    pub(super) description: String,
    pub(super) confidence: f64,
    pub(super) first_seen_at: String,
    pub(super) confirmed_at: String,
    pub(super) pictures: Vec<ReceivedPicture>,
}

/// A received picture.
#[derive(Debug, Serialize)]
pub(super) struct ReceivedPicture {
    pub(super) role: String,
    pub(super) sha256: String,
    pub(super) captured_at: String,
    pub(super) path: PathBuf,
}

pub(super) struct DemoPlatform;

impl DemoPlatform {
    /// Runs the subscriber until aborted; it subscribes again after every reconnect. Pictures are written to `dir`.
    pub(super) fn start(port: u16, dir: PathBuf, cases: mpsc::Sender<ReceivedCase>) -> JoinHandle<()> {
        tokio::spawn(async move {
            if let Err(error) = fs::create_dir_all(&dir) {
                tracing::error!(dir = %dir.display(), %error, "Cannot create the folder for received pictures");
            }
            let mut seen = BTreeSet::new();
            let mut options = MqttOptions::new("demo-platform", ("127.0.0.1", port));
            options.set_clean_start(false);
            options.set_session_expiry_interval(Some(3600));
            options.set_max_packet_size(Some(16 << 20));
            let (client, mut event_loop) = AsyncClient::builder(options).build();
            loop {
                match event_loop.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        for topic in ["gridwatch/v1/+/evidence/+", "gridwatch/v1/+/case"] {
                            // Fails only if the client is gone, and then the next poll fails, too.
                            let _ = client.subscribe(topic, QoS::AtLeastOnce).await;
                        }
                    }
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let topic = String::from_utf8_lossy(&message.topic).into_owned();
                        match receive(&topic, &message.payload, &dir, &mut seen) {
                            Ok(Some(case)) => {
                                if cases.send(case).await.is_err() {
                                    return;
                                }
                            }
                            Ok(None) => {}
                            Err(error) => {
                                tracing::error!(topic, %error, "Cannot process a received message")
                            }
                        }
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                }
            }
        })
    }
}

fn receive(topic: &str, payload: &[u8], dir: &Path, seen: &mut BTreeSet<String>) -> io::Result<Option<ReceivedCase>> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if let Some((_, sha256)) = topic.rsplit_once("/evidence/") {
        if sha256_hex(payload) != sha256 {
            return Err(invalid("the picture's hash differs from that in its topic".into()));
        }
        fs::write(dir.join(format!("{sha256}.jpg")), payload)?;
        return Ok(None);
    }
    let record: CaseRecord = serde_json::from_slice(payload).map_err(|e| invalid(e.to_string()))?;
    if !seen.insert(record.case_id.to_string()) {
        return Ok(None);
    }
    let folder = dir.join(&record.case_id);
    fs::create_dir_all(&folder)?;
    let mut pictures = Vec::new();
    for (i, item) in record.evidence.iter().enumerate() {
        let role = serde_json::to_value(item.role)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default();
        let path = folder.join(format!("{}-{role}.jpg", i + 1));
        fs::copy(dir.join(format!("{}.jpg", item.sha256)), &path).map_err(|e| {
            invalid(format!(
                "case {} names a picture that has not arrived ({}): {e}",
                record.case_id, item.sha256
            ))
        })?;
        pictures.push(ReceivedPicture {
            role,
            sha256: item.sha256.clone(),
            captured_at: item.captured_at.to_string(),
            path,
        });
    }
    Ok(Some(ReceivedCase {
        case_id: record.case_id.to_string(),
        revision: record.revision,
        category_code: record.category_code,
        category_name: record.category_name,
        cell_code: record.cell_code.to_string(),
        camera: record.camera.local_id.to_string(),
        description: record.description,
        confidence: record.confidence,
        first_seen_at: record.first_seen_at.to_string(),
        confirmed_at: record.confirmed_at.to_string(),
        pictures,
    }))
}
