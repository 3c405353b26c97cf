//! Finds what is new and still in a fixed view: the change map.
//!
//! Each view has a learned background, one variant for each light it is seen in. A look is compared with it by the gradients of
//! luma relative to the local brightness, after compensating the sway of the mount; see `docs/seeing.md` for the method, its
//! figures and its limits. What differs from the background and stays the same over several looks is joined into regions, and
//! a region that looks like a thing rather than a change of light is reported until it leaves or is absorbed.
//!
//! A new region is a place to look closely, and support for a detection there. By itself it is not a problem to report.

mod background;
mod buffers;
mod cells;
mod close_look;
mod energy;
mod gradient;
mod grid;
mod learned;
mod map;
mod picture;
mod region;
mod saved;
mod score;
mod shift;
mod still;
mod tracked;
mod types;
mod weights;

pub use self::{
    buffers::ChangeBuffers,
    close_look::CloseLooks,
    map::ChangeMap,
    region::FEATURES,
    saved::FormatError,
    score::weights_sha256,
    types::{ChangeLook, ChangeSettings, ChangeState, Measured, NewRegion, Occupant, occupants},
};
