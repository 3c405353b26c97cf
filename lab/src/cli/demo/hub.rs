//! `gridwatch-lab demo --hub`: the hub beside the demo's box.

use std::{path::Path, time::Duration};

use gridwatch::cli::Failure;
use gridwatch_base::error::Class;
use gridwatch_config::Config;
use gridwatch_custody::keys::KeyRing;
use gridwatch_hub::{
    HubError,
    service::{self, ServiceSettings, Storage},
    session::BrokerAddress,
};
use gridwatch_mqtt::Protocol;
use jiff::Timestamp;
use tokio::{sync::watch, task::JoinHandle};

use super::Texts;

/// A hub that runs until it is stopped.
pub(super) struct DemoHub {
    shutdown: watch::Sender<bool>,
    task: JoinHandle<Result<(), HubError>>,
}

impl DemoHub {
    /// Starts a hub with its data in `data`, confirms the box's key, and says how to use it.
    pub(super) async fn start(data: &Path, port: u16, config: &Config, texts: Texts) -> Result<Self, Failure> {
        let storage = Storage::in_folder(data);
        let (database, _) = storage.open().await.map_err(failure)?;
        let key = KeyRing::of(&config.state_dir)
            .existing()
            .map_err(|e| Failure::new(e.class(), e.to_string()))?;
        let node = config.node.as_str();
        database
            .confirm_key(node, &key.public(), "demo", Timestamp::now())
            .await
            .map_err(failure)?;
        database.close().await;
        let (shutdown, receiver) = watch::channel(false);
        let settings = ServiceSettings {
            storage,
            broker: BrokerAddress {
                host: "127.0.0.1".into(),
                port,
                protocol: Protocol::V5,
                tls: None,
                login: None,
                client_id: "gridwatch-hub".into(),
            },
            prefix: config.broker.topic_prefix.clone(),
            group: None,
            name: "demo".into(),
            dispatch: None,
            closes_cleared: true,
        };
        let mut task = tokio::spawn(service::run(settings, receiver));
        // What is wrong with its storage shows at once.
        if let Ok(ended) = tokio::time::timeout(Duration::from_secs(1), &mut task).await {
            return Err(match ended {
                Ok(Err(error)) => failure(error),
                _ => Failure::new(Class::Bug, "the hub ended".to_owned()),
            });
        }
        let command = format!("target/release/gridwatch-hub --data {}", data.display());
        texts.status(
            &format!("The hub takes the cases. In another terminal: `{command} cases list`, then `… cases accept`, `dispatch`, `dispose` with the end of a case's id; the box looks again after `dispose`, and the hub closes what it found cleared."),
            &format!("接收平台已启动。请在另一终端运行：{command} cases list，再用案卷号末几位运行 cases accept、dispatch、dispose；处置完成后前端复核，核查已清除的自动结案。"),
        );
        Ok(Self { shutdown, task })
    }

    /// Stops the hub.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        self.shutdown.send_replace(true);
        match self.task.await {
            Ok(ended) => ended.map_err(failure),
            Err(error) => Err(Failure::new(Class::Bug, format!("the hub ended: {error}"))),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failure(error: HubError) -> Failure {
    Failure::new(error.class(), format!("hub: {error}"))
}
