//! A hub that runs: in this process, or as its program.

use std::process::{Child, Command, Stdio};

use gridwatch_hub::{
    database::Database,
    pictures::Pictures,
    service::{self, ServiceSettings, Storage},
    session::BrokerAddress,
};
use jiff::Timestamp;
use tokio::{sync::watch, task::JoinHandle};

use crate::{broker::within, case_fixture::NODE, databases::TestDatabase, edge_box::EdgeBox};

/// A hub in this process.
pub(crate) struct RunningHub {
    pub(crate) database: Database,
    pub(crate) pictures: Pictures,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<Result<(), gridwatch_hub::HubError>>,
}

pub(crate) fn settings(database: &TestDatabase, port: u16) -> ServiceSettings {
    ServiceSettings {
        storage: Storage {
            database: database.url.clone(),
            objects: database.pictures(),
        },
        broker: BrokerAddress {
            host: "127.0.0.1".into(),
            port,
            protocol: gridwatch_mqtt::Protocol::V5,
            tls: None,
            login: None,
            client_id: "gridwatch-hub".into(),
        },
        prefix: "gridwatch".into(),
        group: None,
        name: "test".into(),
        dispatch: None,
        closes_cleared: true,
    }
}

impl RunningHub {
    pub(crate) async fn start(settings: ServiceSettings) -> Self {
        let (database, pictures) = settings.storage.open().await.unwrap();
        let (shutdown, receiver) = watch::channel(false);
        Self {
            database,
            pictures,
            shutdown,
            task: tokio::spawn(service::run(settings, receiver)),
        }
    }

    /// Like [`Self::start`], with the box's key confirmed before.
    pub(crate) async fn start_for(settings: ServiceSettings, edge: &EdgeBox) -> Self {
        let (database, _) = settings.storage.open().await.unwrap();
        database
            .confirm_key(NODE, &edge.key, "operator", Timestamp::now())
            .await
            .unwrap();
        Self::start(settings).await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.send_replace(true);
        within(self.task).await.unwrap().unwrap();
    }
}

/// The hub's program, killed on drop.
pub(crate) struct HubProcess(Child);

impl HubProcess {
    pub(crate) fn start(database: &TestDatabase, port: u16, more: &[&str]) -> Self {
        let broker = format!("mqtt://127.0.0.1:{port}");
        let child = Command::new(env!("CARGO_BIN_EXE_gridwatch-hub"))
            .args(["--database", &database.url, "--objects"])
            .arg(database.pictures())
            .args(["run", "--broker", &broker, "--log", "warn"])
            .args(more)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// It has not ended by itself.
    pub(crate) fn assert_runs(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for HubProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command of the hub; returns its exit code and what it printed.
pub(crate) fn command(database: &TestDatabase, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gridwatch-hub"))
        .args(["--database", &database.url, "--objects"])
        .arg(database.pictures())
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}
