//! Server-sent events: what an open page is told, and what hidden or closed pages cost.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use gridwatch_engine::View;

use crate::{
    http::Client,
    street::{Served, at},
};

/// An open stream of events.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(browser: &Client, path: &str) -> Self {
        let mut stream = browser.connect();
        stream
            .write_all(format!("{}\r\n", browser.head("GET", path)).as_bytes())
            .unwrap();
        let mut events = Self(BufReader::new(stream));
        assert_eq!(events.line(), "HTTP/1.1 200 OK");
        events
    }

    /// The next line; empty at the end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The data of the next event with this name.
    fn next(&mut self, name: &str) -> String {
        let wanted = format!("event: {name}");
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream ended");
            if line.trim_end() != wanted {
                continue;
            }
            let mut data = String::new();
            loop {
                let line = self.line();
                match line.strip_prefix("data: ").or_else(|| line.strip_prefix("data:")) {
                    Some(part) => data += part,
                    None => return data,
                }
            }
        }
    }

    /// Reads until the stream ends; it must be finished, not cut off.
    fn ends(mut self) {
        let (mut line, mut last) = (String::new(), String::new());
        while self.0.read_line(&mut line).is_ok_and(|n| n > 0) {
            if !line.trim_end().is_empty() {
                last = line.trim_end().to_owned();
            }
            line.clear();
        }
        assert_eq!(last, "0", "the last chunk");
    }
}

/// A time after every look so far, in milliseconds.
const AFTER_ALL: &str = "/wall/events?since=1900000000000";

#[test]
fn a_look_changes_its_tile_and_a_problem_the_order() {
    let served = Served::start();
    let mut events = Events::open(&served.browser(), AFTER_ALL);
    assert!(events.next("status").contains("运行正常"));
    served.street.look("street-b", at(500));
    let tile = events.next("view:street-b");
    assert!(
        tile.contains(&format!("thumbnail?at={}", at(500).as_millisecond())),
        "{tile}"
    );
    served
        .street
        .change("street-b", |status| status.sight = Some(View::Moved));
    assert_eq!(events.next("order"), "1");
    let tiles = served.browser().get("/wall");
    assert!(tiles.text().find("street-b") < tiles.text().find("street-a"));
    served.street.block("the broker is unreachable");
    assert!(events.next("status").contains("unreachable"));
}

#[test]
fn what_changes_between_page_and_stream_is_not_lost() {
    let served = Served::start();
    served.street.look("square-c", at(700));
    let since = at(600).as_millisecond();
    let mut events = Events::open(&served.browser(), &format!("/wall/events?since={since}"));
    assert!(
        events
            .next("view:square-c")
            .contains(&at(700).as_millisecond().to_string())
    );
}

#[test]
fn without_an_open_page_the_daemon_has_nothing_to_send() {
    let served = Served::start();
    let mut browser = served.browser();
    for path in ["/", "/cases", "/cameras/street-a", "/cameras/street-a/thumbnail"] {
        browser.get(path);
        assert_eq!(served.street.watchers(), 0, "{path}");
    }
    let events = Events::open(&browser, AFTER_ALL);
    served.wait_until("watched", |street| street.watchers() == 1);
    drop(events);
    // The next event finds the connection closed.
    served.wait_until("not watched", |street| {
        street.look("street-a", at(800));
        street.watchers() == 0
    });
}

#[test]
fn a_slow_browser_gets_the_newest_state_and_no_queue() {
    let served = Served::start();
    let mut events = Events::open(&served.browser(), AFTER_ALL);
    events.next("status");
    // Ten times what the daemon's channel holds.
    for second in 0..2560 {
        served.street.look("street-a", at(10_000 + second));
    }
    served.wait_until("sent", |street| street.watchers() == 1);
    // Either the tile's newest look, or, as changes were lost, a request to load all of them.
    let mut line = events.line();
    while line != "event: order" && line != "event: view:street-a" {
        line = events.line();
    }
    let shown = served.browser().get("/wall");
    assert!(shown.contains(&at(12_559).as_millisecond().to_string()));
}

#[test]
fn a_stream_ends_with_the_session_and_streams_are_bounded() {
    let served = Served::with_users();
    let mut viewer = served.logged_in("viewer");
    let events = Events::open(&viewer, AFTER_ALL);
    assert_eq!(served.post(&mut viewer, "/cases", "/logout", &[]).status, 303);
    served.street.look("street-a", at(900));
    events.ends();
    let (operator, admin) = (served.logged_in("operator"), served.logged_in("admin"));
    let open: Vec<Events> = (0..16).map(|_| Events::open(&operator, AFTER_ALL)).collect();
    assert_eq!(operator.clone().get(AFTER_ALL).status, 503);
    drop(Events::open(&admin, AFTER_ALL));
    drop(open);
}

#[test]
fn a_cameras_page_follows_its_view_only() {
    let served = Served::start();
    let mut events = Events::open(&served.browser(), "/cameras/street-a/events?since=1900000000000");
    served.wait_until("watched", |street| street.watchers() == 1);
    served.street.look("street-b", at(950));
    served.street.look("street-a", at(960));
    let look = events.next("look");
    assert!(
        look.contains(&format!("picture?at={}", at(960).as_millisecond())),
        "{look}"
    );
}

#[test]
fn open_streams_end_with_the_console() {
    let mut served = Served::start();
    let events = Events::open(&served.browser(), AFTER_ALL);
    served.wait_until("watched", |street| street.watchers() == 1);
    served.end();
    events.ends();
}
