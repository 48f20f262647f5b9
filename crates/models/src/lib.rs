//! Small models of which every state is looked at, where simulation draws some: what happens to a write
//! when replicas lose their memory ([`Amnesia`]), the forgetting of what was deleted ([`Forgetful`]), the folding of
//! idempotency names ([`Folding`]).
//!
//! Each is made of the product's own pure code (values, epochs, the barrier) as far as there is any, and
//! of rules that can be left out, to see that the model finds what they are for. What they cover:
//! `docs/explanation/models.md`.

mod amnesia;
mod barrier;
mod checked;
mod hand;
mod names;
mod seat;

pub use amnesia::{Amnesia, AmnesiaRules};
pub use barrier::{BarrierRules, BarrierState, BarrierWay, Forgetful, Hears, Third};
pub use checked::{Checked, is_long};
pub use names::{Folding, FoldingRules};
