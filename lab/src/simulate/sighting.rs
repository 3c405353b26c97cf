//! How one camera sees one object over time: how hard it is to detect, and when it was hidden.
//!
//! The latent number of a detection has three parts: how hard the object is for this camera, which never changes; light and crowd
//! around it, which change over minutes; and the noise of the look. So misses come in runs, and some objects are missed more often
//! than others.

use fastrand::Rng;

use super::{clock::Ms, random::Distributions};

/// Shares of the latent number's variance: the object's own, the slow part, and the look's noise. With these, one object in
/// forty is detected in less than 0.4 of the looks where the mean is 0.7.
const OBJECT_VARIANCE: f64 = 0.15;
const SLOW_VARIANCE: f64 = 0.35;
const LOOK_VARIANCE: f64 = 0.5;
/// Time constant of the slow part (1/e).
const SLOW_MS: f64 = 120_000.0;

/// One camera's sighting of one object.
#[derive(Debug)]
pub(super) struct Sighting {
    pub(super) rng: Rng,
    /// For each part, the constant and the slow part of its latent number.
    parts: Vec<(f64, f64)>,
    at: Ms,
    hidden: Vec<(Ms, Ms)>,
    hidden_since: Option<Ms>,
    /// Whether it appeared after the camera had learned its view in every light so far; `None` until its change map was asked.
    pub(super) appeared: Option<bool>,
}

impl Sighting {
    pub(super) fn new(mut rng: Rng, parts: usize) -> Self {
        Self {
            parts: (0..parts).map(|_| (rng.normal(), rng.normal())).collect(),
            rng,
            at: Ms::MIN,
            hidden: Vec::new(),
            hidden_since: None,
            appeared: None,
        }
    }

    /// The spans in which it was hidden from this camera, up to `end`.
    pub(super) fn hidden(&self, end: Ms) -> Vec<(Ms, Ms)> {
        let open = self.hidden_since.map(|since| (since, end));
        self.hidden.iter().copied().chain(open).collect()
    }

    pub(super) fn hide(&mut self, now: Ms, is_hidden: bool) {
        match (is_hidden, self.hidden_since) {
            (true, None) => self.hidden_since = Some(now),
            (false, Some(since)) => {
                self.hidden.push((since, now));
                self.hidden_since = None;
            }
            _ => {}
        }
    }

    /// The latent number of a part at this look.
    pub(super) fn latent(&mut self, part: usize) -> f64 {
        let noise = self.rng.normal();
        self.latent_with(part, noise)
    }

    /// The latent number of a part with another noise, standard normal: that of a crop of the same look.
    pub(super) fn latent_with(&self, part: usize, noise: f64) -> f64 {
        let (own, slow) = self.parts[part];
        OBJECT_VARIANCE.sqrt() * own + SLOW_VARIANCE.sqrt() * slow + LOOK_VARIANCE.sqrt() * noise
    }

    /// Advances the slow parts to `now`.
    pub(super) fn advance_slow(&mut self, now: Ms) {
        if self.at != Ms::MIN {
            let kept = (-((now - self.at) as f64) / SLOW_MS).exp();
            for (_, slow) in &mut self.parts {
                *slow = kept * *slow + (1.0 - kept * kept).sqrt() * self.rng.normal();
            }
        }
        self.at = now;
    }
}
