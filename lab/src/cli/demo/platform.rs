//! The grid platform's part in the demo: a subscriber that keeps the pictures, takes each case once by its `case_id`, and
//! checks that every picture a case names has come and is what it says it is.

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

/// A case as it arrived.
#[derive(Debug, Serialize)]
pub(super) struct Received {
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

/// A picture as it arrived.
#[derive(Debug, Serialize)]
pub(super) struct ReceivedPicture {
    pub(super) role: String,
    pub(super) sha256: String,
    pub(super) captured_at: String,
    pub(super) path: PathBuf,
}

pub(super) struct Platform;

impl Platform {
    /// Subscribes, and subscribes again after every reconnect, until aborted. Pictures go into `dir`.
    pub(super) fn start(port: u16, dir: PathBuf, cases: mpsc::Sender<Received>) -> JoinHandle<()> {
        tokio::spawn(async move {
            if let Err(error) = fs::create_dir_all(&dir) {
                tracing::error!(dir = %dir.display(), %error, "The demo's subscriber cannot keep pictures.");
            }
            let mut seen = BTreeSet::new();
            let mut options = MqttOptions::new("demo-platform", ("127.0.0.1", port));
            options.set_clean_start(false);
            options.set_session_expiry_interval(Some(3600));
            options.set_max_packet_size(Some(16 << 20));
            let (client, mut connection) = AsyncClient::builder(options).build();
            loop {
                match connection.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        for topic in ["gridwatch/v1/+/evidence/+", "gridwatch/v1/+/case"] {
                            // Refused only when the client is gone, and then the next poll fails.
                            let _ = client.subscribe(topic, QoS::AtLeastOnce).await;
                        }
                    }
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let topic = String::from_utf8_lossy(&message.topic).into_owned();
                        match take(&topic, &message.payload, &dir, &mut seen) {
                            Ok(Some(case)) => {
                                if cases.send(case).await.is_err() {
                                    return;
                                }
                            }
                            Ok(None) => {}
                            Err(error) => {
                                tracing::error!(topic, %error, "The demo's subscriber cannot take a message.")
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

fn take(topic: &str, payload: &[u8], dir: &Path, seen: &mut BTreeSet<String>) -> io::Result<Option<Received>> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if let Some((_, sha256)) = topic.rsplit_once("/evidence/") {
        if sha256_hex(payload) != sha256 {
            return Err(wrong("the picture's bytes are not those its topic names".into()));
        }
        fs::write(dir.join(format!("{sha256}.jpg")), payload)?;
        return Ok(None);
    }
    let record: CaseRecord = serde_json::from_slice(payload).map_err(|e| wrong(e.to_string()))?;
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
            wrong(format!(
                "case {} names a picture that has not come ({}): {e}",
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
    Ok(Some(Received {
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
