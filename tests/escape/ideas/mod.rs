//! The list: one file for a family of ideas, each with what must stop it.

mod broker;
mod cgroup;
mod compiler;
mod control;
mod ends;
mod entries;
mod execute;
mod hardening;
mod kernel;
mod limits;
mod machine;
mod memory;
mod mounts;
mod names;
mod namespaces;
mod open;
mod outlive;
mod passing;
mod processes;
mod races;
mod signals;
mod sockets;
mod state;

use wasi_guard_captive::Value;

pub(crate) use self::ends::ends_by;
use crate::idea::{Draft, Idea};
use crate::scene::Scene;

/// A descriptor number that nothing else has: `/proc/self/fd/N` must be written before N is known.
const HIGH: i32 = 400;

/// All of them.
pub(crate) fn all(scene: &Scene) -> Vec<Idea<'_>> {
    let mut ideas = before_the_end(scene);
    ideas.extend(ends::ideas(&ideas));
    ideas.extend(compiler::ideas());
    ideas.extend(state::in_the_end(scene));
    ideas
}

fn before_the_end(scene: &Scene) -> Vec<Idea<'_>> {
    let mut ideas = Vec::new();
    for family in [
        state::ideas,
        open::ideas,
        names::ideas,
        cgroup::ideas,
        namespaces::ideas,
        mounts::ideas,
        execute::ideas,
        processes::ideas,
        signals::ideas,
        memory::ideas,
        sockets::ideas,
        passing::ideas,
        races::ideas,
        hardening::ideas,
        machine::ideas,
        kernel::ideas,
        entries::ideas,
        control::ideas,
        broker::ideas,
        limits::ideas,
        outlive::ideas,
    ] {
        ideas.extend(family(scene));
    }
    ideas
}

/// The address of so many bytes that are 0 but for eight at each of these places.
fn struct_of(d: &mut Draft, length: usize, fields: &[(usize, Value)]) -> Value {
    let buffer = d.zeros(length);
    for (offset, value) in fields {
        d.put(buffer, *offset, *value);
    }
    buffer.into()
}
