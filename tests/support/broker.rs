//! A real mosquitto on a free port, without persistence: it loses its state when killed.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use jsonschema::Validator;
use rumqttc::{
    AsyncClient, Event, Incoming, IncomingPacketSizeLimit, MqttOptions, Publish, PublishOptions, PublishProperties, QoS,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Timeout of every wait; far longer than anything should take.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A running broker; killed on drop.
pub struct Broker {
    pub port: u16,
    folder: TempDir,
    process: Option<Child>,
}

impl Broker {
    /// Without access control.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// With more lines in mosquitto.conf; `{dir}` stands for the folder of the configuration.
    pub fn start_with(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let more = more.replace("{dir}", &folder.path().display().to_string());
        // `user` stops a mosquitto started by root from switching to a user who cannot read this folder.
        let anonymous = if more.contains("allow_anonymous") {
            ""
        } else {
            "allow_anonymous true"
        };
        let conf =
            format!("listener {port} 127.0.0.1\n{anonymous}\npersistence false\nuser root\nlog_dest stderr\n{more}\n");
        fs::write(folder.path().join("mosquitto.conf"), conf).expect("the folder takes files");
        fs::write(folder.path().join("acl"), "").expect("the folder takes files");
        let mut broker = Self {
            port,
            folder,
            process: None,
        };
        broker.restart();
        broker
    }

    /// Writes a file next to the configuration, such as for `acl_file {dir}/acl`. mosquitto reads it at its next start.
    pub fn write_file(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("the folder takes files");
    }

    /// SIGSTOP: connections stay open, and nothing is answered.
    pub fn freeze(&self) {
        let process = self.process.as_ref().expect("it runs");
        let id = rustix::process::Pid::from_child(process);
        rustix::process::kill_process(id, rustix::process::Signal::STOP).expect("it is our child");
    }

    /// SIGKILL: no DISCONNECT, no saved state.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it is our child");
            process.wait().expect("it is our child");
        }
    }

    /// Starts it again on the same port, without state.
    pub fn restart(&mut self) {
        self.kill();
        let log = fs::File::create(self.folder.path().join("log")).expect("the folder takes files");
        let binary = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
            .into_iter()
            .find(|p| fs::exists(p).unwrap_or(false))
            .unwrap_or("mosquitto");
        let process = Command::new(binary)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mosquitto is installed (edge-deploy/setup.sh)");
        self.process = Some(process);
        let patience = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self
                .process
                .as_mut()
                .and_then(|p| p.try_wait().expect("it is our child"));
            assert!(
                ended.is_none() && Instant::now() < patience,
                "mosquitto does not listen: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its log since it was last started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The checked-in schemas of what a box sends.
static SCHEMAS: LazyLock<BTreeMap<&str, Validator>> = LazyLock::new(|| {
    ["case", "status", "health", "claim"]
        .into_iter()
        .map(|name| {
            let file = format!("{}/configs/schema/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
            let text = fs::read_to_string(&file).expect("it is checked in");
            let schema = serde_json::from_str(&text).expect("it is JSON");
            let validator = jsonschema::options().should_validate_formats(true).build(&schema);
            (name, validator.expect("it is a schema"))
        })
        .collect()
});

/// Checks that a message of a box conforms to the contract.
#[track_caller]
fn assert_contract(message: &Publish) {
    let topic = topic(message);
    if topic.starts_with("gridwatch/v1/site/") && message.payload.is_empty() {
        return;
    }
    let Some((_, kind)) = topic.strip_prefix("gridwatch/v1/").and_then(|t| t.split_once('/')) else {
        return;
    };
    if let Some(sha256) = kind.strip_prefix("evidence/") {
        assert_eq!(gridwatch_base::digest::sha256_hex(&message.payload), sha256, "{topic}");
        return;
    }
    let kind = if topic.starts_with("gridwatch/v1/site/") {
        "claim"
    } else {
        kind
    };
    if let Some(validator) = SCHEMAS.get(kind) {
        let value = serde_json::from_slice(&message.payload).expect("it is JSON");
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{topic}: {errors:?}");
    }
}

/// A client that subscribes to a filter, reconnects when disconnected, and can publish.
pub struct Subscriber {
    pub client: AsyncClient,
    messages: mpsc::UnboundedReceiver<Publish>,
    /// One item per acknowledged subscription, on each connection.
    listening: mpsc::UnboundedReceiver<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Subscriber {
    /// Returns once subscribed.
    pub async fn start(port: u16, filter: &str) -> Self {
        Self::start_with(port, filter, |_| {}).await
    }

    /// With connection options changed by `more`.
    pub async fn start_with(port: u16, filter: &str, more: impl FnOnce(&mut MqttOptions)) -> Self {
        let mut options = MqttOptions::new(format!("subscriber-{}", fastrand::u64(..)), ("127.0.0.1", port));
        more(&mut options);
        options.set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(16 << 20));
        let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
        let (messages_in, messages) = mpsc::unbounded_channel();
        let (listening_in, listening) = mpsc::unbounded_channel();
        let (subscribing, filter) = (client.clone(), filter.to_owned());
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                        subscribing
                            .try_subscribe(filter.clone(), QoS::AtLeastOnce)
                            .expect("the queue has room");
                    }
                    Ok(Event::Incoming(Incoming::SubAck(_))) => drop(listening_in.send(())),
                    Ok(Event::Incoming(Incoming::Publish(p))) => drop(messages_in.send(p)),
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let mut subscriber = Self {
            client,
            messages,
            listening,
            task,
        };
        subscriber.wait_subscribed().await;
        subscriber
    }

    /// Waits for the next acknowledged subscription, such as after a reconnect.
    pub async fn wait_subscribed(&mut self) {
        within(self.listening.recv()).await.expect("the task lives");
    }

    /// The next message, checked against the contract.
    pub async fn next(&mut self) -> Publish {
        let message = self.next_unchecked().await;
        assert_contract(&message);
        message
    }

    /// The next message, also if it has a platform's own format.
    pub async fn next_unchecked(&mut self) -> Publish {
        within(self.messages.recv()).await.expect("the task lives")
    }

    /// The messages received so far.
    pub fn drain(&mut self) -> Vec<Publish> {
        std::iter::from_fn(|| self.messages.try_recv().ok())
            .inspect(assert_contract)
            .collect()
    }

    /// Publishes with QoS 1, and returns once acknowledged.
    pub async fn publish(&self, topic: &str, payload: &str, correlation: Option<&str>) {
        let options = PublishOptions::at_least_once().properties(PublishProperties {
            correlation_data: correlation.map(|c| c.to_owned().into()),
            ..Default::default()
        });
        self.publish_with(topic, payload, options).await;
    }

    /// Like [`Subscriber::publish`], retained.
    pub async fn publish_retained(&self, topic: &str, payload: &str) {
        let options = PublishOptions::at_least_once().retain(true);
        self.publish_with(topic, payload, options).await;
    }

    async fn publish_with(&self, topic: &str, payload: &str, options: PublishOptions) {
        let notice = self
            .client
            .publish_tracked(topic, payload, options)
            .await
            .expect("the queue has room");
        within(notice.wait_async()).await.expect("the broker acknowledges it");
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The topic as text.
pub fn topic(publish: &Publish) -> &str {
    std::str::from_utf8(&publish.topic).expect("topics are UTF-8")
}

/// Awaits `future`; fails the test after [`PATIENCE`].
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("timed out")
}
