//! Codes that show that a change was sent by a page of this server: bound to the session, and different in each page, so that what is
//! compressed with it tells nothing about it (BREACH).

use crate::{identity::Actor, random, state::WebState};

/// Field of forms that holds the code.
pub const FIELD: &str = "csrf";
/// Header that holds the code, sent by scripts.
pub const HEADER: &str = "x-csrf-token";

/// A new code. Without an actor, for the login page.
pub fn issue(web: &WebState, actor: Option<&Actor>) -> String {
    let nonce = random::id();
    let code = web.key.sign("csrf", &message(actor, &nonce));
    format!("{nonce}.{code}")
}

/// Whether the code was issued for this actor.
pub fn is_valid(web: &WebState, actor: Option<&Actor>, code: &str) -> bool {
    let parts = code.split_once('.');
    parts.is_some_and(|(nonce, code)| web.key.verify("csrf", &message(actor, nonce), code))
}

fn message(actor: Option<&Actor>, nonce: &str) -> String {
    let subject = actor.map_or_else(|| "nobody".into(), Actor::csrf_subject);
    format!("{subject}\n{nonce}")
}
