//! What the name of a program's section says about the program, as libbpf's `SEC()` has it.
//!
//! Names come from hostile objects, and parts of them become names of files below tracefs, of the
//! kernel's functions and of libraries: everything that cannot be such a name is refused here.

mod name;
mod table;

use wasi_guard_policy::bpf::{AttachPoint, ProgramKind};

/// What a section's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The kind of program, as a policy names it.
    pub kind: ProgramKind,
    /// `BPF_PROG_TYPE_*`.
    pub prog_type: u32,
    /// `expected_attach_type` of `BPF_PROG_LOAD` (`enum bpf_attach_type`); 0 where the kernel wants
    /// none.
    pub expected_attach_type: u32,
    /// `BPF_F_SLEEPABLE`.
    pub sleepable: bool,
    /// `BPF_F_XDP_HAS_FRAGS`.
    pub frags: bool,
    /// Where the program is to be attached.
    pub place: Place,
}

/// Where a program is to be attached, as far as its section says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// There. The path of an [`AttachPoint::Uprobe`] is the object's text: it may be relative.
    Point {
        /// There.
        point: AttachPoint,
        /// Bytes after the beginning of the function; 0 for all but kprobes and uprobes.
        offset: u64,
    },
    /// At a cgroup, which whoever attaches it has to name.
    Cgroup,
    /// At an interface, which whoever attaches it has to name.
    Interface,
    /// It is not said. There is nothing that it can be attached to without more being said.
    Unsaid,
}

/// Why there can be no program in a section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SectionError {
    /// No such kind is known.
    #[error("no kind of program is known for the section {section:?}")]
    Unknown {
        /// The section's name.
        section: String,
    },
    /// There is such a kind, and guests cannot have it.
    #[error("the section {section:?} is for {what}, which guests cannot load")]
    Unsupported {
        /// The section's name.
        section: String,
        /// Programs of this kind, in words.
        what: &'static str,
    },
    /// The kind is known, and the rest makes no sense.
    #[error("the section {section:?} {why}")]
    Malformed {
        /// The section's name.
        section: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Reads the name of a program's section.
///
/// # Errors
/// If there is no such kind of program, or it is one that policies have no word for, or what it is
/// to be attached to cannot be a name.
pub fn parse(section: &str) -> Result<Section, SectionError> {
    let owned = || section.to_owned();
    let (head, rest) = match section.split_once('/') {
        Some((head, rest)) => (head, Some(rest)),
        None => (section, None),
    };
    if head.starts_with('?') {
        let what = "programs that are loaded on demand only";
        return Err(SectionError::Unsupported { section: owned(), what });
    }
    let Some(row) = table::find(head, rest) else {
        return Err(match table::unsupported(head, rest) {
            Some(what) => SectionError::Unsupported { section: owned(), what },
            None => SectionError::Unknown { section: owned() },
        });
    };
    let place = name::place(row.place, rest.unwrap_or_default())
        .map_err(|why| SectionError::Malformed { section: owned(), why })?;
    if place == Place::Unsaid && row.kind_needs_a_name() {
        let why = "does not name what the program is for, which the kernel asks when it is loaded";
        return Err(SectionError::Malformed { section: owned(), why });
    }
    Ok(Section {
        kind: row.kind,
        prog_type: row.prog_type,
        expected_attach_type: row.attach_type,
        sleepable: head.ends_with(".s"),
        frags: head == "xdp.frags",
        place,
    })
}

#[cfg(test)]
mod tests;
