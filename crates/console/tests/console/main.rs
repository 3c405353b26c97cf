//! The console over real HTTP: a served router on a free port, a store with cases, and a daemon whose cameras the test decides.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

#[path = "../../../../tests/support/case.rs"]
mod case;

mod add;
mod api;
mod api_accounts;
mod assets;
mod audit;
mod calibration;
mod candidates;
mod cases;
mod configuration;
mod events;
mod forged;
mod groups;
mod hostile;
mod hours;
mod http;
mod live;
mod login;
mod pages;
mod permits;
mod presets;
mod proxy;
mod recorded;
mod review;
mod roles;
mod rtsp_camera;
mod schemathesis;
mod signs;
mod street;
mod support_bundle;
mod system;
mod system_models;
mod texts;
mod thresholds;
mod tls;
mod views;
mod week;
mod zones;
