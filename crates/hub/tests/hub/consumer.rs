//! The consumer in docs/platform.md does what the page says.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use crate::{broker::Broker, edge_box::EdgeBox};

struct Consumer(Child);

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_consumer_takes_cases_with_pictures_and_gives_receipts() {
    let python = std::env::var("GRIDWATCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_client = Command::new(&python)
        .args(["-c", "from paho.mqtt.client import CallbackAPIVersion"])
        .stderr(Stdio::null())
        .status();
    if !has_client.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {python} has no paho-mqtt 2; run pip install 'paho-mqtt>=2'");
        return;
    }
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/platform.md")).unwrap();
    let program = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let broker = Broker::start();
    let child = Command::new(&python)
        .args(["-c", program, &broker.port.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut consumer = Consumer(child);
    let mut edge = EdgeBox::new();
    let ids = [edge.file(1), edge.file(2)];
    let _link = edge.link(broker.port);
    // Receipts are required: it is empty once both have one.
    edge.wait_empty().await;
    let lines = BufReader::new(consumer.0.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.take(2).map(Result::unwrap).collect();
    for (line, id) in lines.iter().zip(&ids) {
        assert!(line.starts_with(id.as_str()) && line.ends_with("missing: []"), "{line}");
    }
}
