//! Buffers of a look.

use super::{
    background::{Dither, Treatment},
    energy::Energies,
    gradient::Gradients,
    grid::Grid,
    picture::WorkingPicture,
    shift::Registration,
};

/// Buffers of a look. One worker uses one for all its views; those of a view's size are made at its first look.
#[derive(Debug, Default)]
pub struct ChangeBuffers {
    buffers: Option<Buffers>,
}

#[derive(Debug)]
pub(super) struct Buffers {
    pub(super) picture: WorkingPicture,
    pub(super) gradients: Gradients,
    pub(super) registration: Registration,
    pub(super) energies: Energies,
    pub(super) dither: Dither,
    pub(super) histogram: Vec<u32>,
    pub(super) rates: Vec<f32>,
    pub(super) row_rates: Vec<f32>,
    pub(super) stack: Vec<u32>,
    pub(super) peak_scratch: Vec<bool>,
    /// By cell: energy of the look, of the background and of the candidate, their differences from the look.
    pub(super) look_energy: Vec<f32>,
    pub(super) background_energy: Vec<f32>,
    pub(super) candidate_energy: Vec<f32>,
    pub(super) residual: Vec<f32>,
    pub(super) candidate_residual: Vec<f32>,
    pub(super) relative: Vec<f32>,
    pub(super) is_new: Vec<bool>,
    pub(super) is_still: Vec<bool>,
    pub(super) mask: Vec<bool>,
    pub(super) treatment: Vec<Treatment>,
    pub(super) clips: Vec<bool>,
    /// Residual and energy of the variant that was compared last, and its index.
    pub(super) other: [Vec<f32>; 2],
    pub(super) compared: usize,
    /// Share of the judged cells that are new.
    pub(super) changed: f32,
    /// Median residual of the judged cells.
    pub(super) noise: f32,
    /// Median changes of brightness, red and blue over the view, in octaves.
    pub(super) global: [f32; 3],
}

impl Buffers {
    fn new(grid: Grid) -> Self {
        let cells = grid.cells();
        let plane = || vec![0.0_f32; cells];
        Self {
            picture: WorkingPicture::new(grid),
            gradients: Gradients::new(grid),
            registration: Registration::default(),
            energies: Energies::default(),
            dither: Dither::new(grid.width),
            histogram: Vec::new(),
            rates: Vec::new(),
            row_rates: vec![0.0; grid.columns],
            stack: Vec::new(),
            peak_scratch: Vec::new(),
            look_energy: plane(),
            background_energy: plane(),
            candidate_energy: plane(),
            residual: plane(),
            candidate_residual: plane(),
            relative: plane(),
            is_new: vec![false; cells],
            is_still: vec![false; cells],
            mask: vec![false; cells],
            treatment: vec![Treatment::Background; cells],
            clips: vec![false; cells],
            other: [plane(), plane()],
            compared: usize::MAX,
            changed: 0.0,
            noise: 0.0,
            global: [0.0; 3],
        }
    }
}

impl ChangeBuffers {
    pub(super) fn of(&mut self, grid: Grid) -> &mut Buffers {
        if self.buffers.as_ref().is_none_or(|b| b.picture.grid != grid) {
            self.buffers = Some(Buffers::new(grid));
        }
        self.buffers.get_or_insert_with(|| Buffers::new(grid))
    }
}
