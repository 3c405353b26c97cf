//! What every page of the console needs to be shown.

use std::{ops::Deref, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use gridwatch_engine::Label;
use gridwatch_web::{
    Actor, Rejection,
    page::{Frame, PageSettings},
};

use crate::{
    access::CameraAccess as _,
    app::App,
    assets,
    daemon::{ConfigurationStatus, Readiness},
    i18n::{Texts, messages},
};

/// What a page shows around its content, and what its links and forms need. Handlers take it as an argument; what every web program has of it is
/// in the [`Frame`].
#[derive(Clone)]
pub(crate) struct Page {
    frame: Frame,
    pub(crate) t: &'static Texts,
    /// Id of the box.
    pub(crate) node: String,
    pub(crate) readiness: Readiness,
    pub(crate) configuration: ConfigurationStatus,
}

impl Page {
    pub(crate) fn new(app: &App, headers: &HeaderMap, actor: Option<Actor>, path: &str) -> Self {
        let config = app.config();
        let (readiness, configuration) = match &actor {
            Some(actor) => actor.standing(&*app.daemon),
            None => (app.daemon.readiness(), app.daemon.configuration()),
        };
        let settings = PageSettings {
            language: config.language,
            zone: config.timezone.clone(),
            assets: assets::BUNDLE.version,
            chinese: messages::chinese,
        };
        let frame = Frame::new(&app.web, settings, headers, actor, path);
        Self {
            t: Texts::of(frame.language),
            frame,
            node: config.node.to_string(),
            readiness,
            configuration,
        }
    }

    /// The name of a label in the page's language, or the label itself.
    pub(crate) fn label(&self, label: &Label) -> String {
        let name = self.t.names.label(label.as_str());
        name.map_or_else(|| label.to_string(), |name| name.to_string())
    }
}

impl Deref for Page {
    type Target = Frame;

    fn deref(&self) -> &Frame {
        &self.frame
    }
}

impl FromRequestParts<Arc<App>> for Page {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Rejection> {
        let actor = parts.extensions.get::<Actor>().cloned();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self::new(app, &parts.headers, actor, path))
    }
}
