//! The list: one file for a family of ideas, each with what must stop it.

mod open;
mod signals;

use crate::idea::Idea;
use crate::scene::Scene;

/// All of them.
pub(crate) fn all(scene: &Scene) -> Vec<Idea<'_>> {
    let mut ideas = Vec::new();
    for family in [open::ideas, signals::ideas] {
        ideas.extend(family(scene));
    }
    ideas
}
