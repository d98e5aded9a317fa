//! Holds an image against a policy, before anything of it reaches the kernel.
//!
//! What is checked is what will be loaded, byte for byte: instructions, not the object's own words
//! about them. Memory safety is not checked here: that is the kernel's verifier's part.

mod instructions;
mod maps;
#[cfg(test)]
mod tests;

use wasi_guard_policy::bpf::{AttachPoint, Bpf, ProgramKind, Refusal};

use crate::image::{Image, MAX_NAME, Program};
use crate::section::{self, Place, Section};

pub use instructions::with_maps;
pub use maps::bytes as map_bytes;

/// What a guest has loaded already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Programs.
    pub programs: u32,
    /// Maps.
    pub maps: u32,
    /// Bytes of these maps, as [`map_bytes`] counts them.
    pub map_bytes: u64,
}

/// What an image is checked for besides its policy.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// How many processors there can be, each of which may have values and buffers of its own.
    pub processors: u64,
    /// What the policy does not grant is let through. What no policy can grant is refused all the
    /// same.
    pub audit: bool,
}

/// Why an object is not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The policy does not grant it.
    Policy {
        /// The program that wants it, if it is one.
        program: Option<String>,
        /// What the policy lacks.
        refusal: Refusal,
    },
    /// No policy can grant it.
    Never {
        /// The program that wants it, if it is one.
        program: Option<String>,
        /// What it is.
        what: String,
    },
    /// The image is not one.
    Malformed(String),
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |f: &mut std::fmt::Formatter<'_>, program: &Option<String>| match program {
            Some(program) => write!(f, "program `{program}`: "),
            None => Ok(()),
        };
        match self {
            Self::Policy { program, refusal: Refusal { key, wanted } } => {
                of(f, program)?;
                write!(f, "the policy does not grant it: `{wanted}` is not in [bpf] {key}")
            }
            Self::Never { program, what } => {
                of(f, program)?;
                write!(f, "no policy can grant {what}")
            }
            Self::Malformed(what) => write!(f, "the object makes no sense: {what}"),
        }
    }
}

/// A program that may be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loadable {
    /// What its section says.
    pub section: Section,
    /// Where it is bound to when it is loaded, for the kinds for which that is so.
    pub bound: Option<AttachPoint>,
}

/// Checks an image: what may be loaded of it, program by program, and how much the guest has then.
///
/// What the policy does not grant is told to `denied` in any case.
///
/// # Errors
/// The first thing that is not granted.
pub fn check(
    image: &Image,
    policy: &Bpf,
    usage: Usage,
    Host { processors, audit }: Host,
    denied: &mut dyn FnMut(&Denied),
) -> Result<(Vec<Loadable>, Usage), Denied> {
    let mut judge = |result: Result<(), Refusal>, program: Option<&str>| match result {
        Ok(()) => Ok(()),
        Err(refusal) => {
            let found = Denied::Policy { program: program.map(str::to_owned), refusal };
            denied(&found);
            if audit { Ok(()) } else { Err(found) }
        }
    };
    let usage = count(image, policy, usage, processors, &mut judge)?;
    let mut programs = Vec::new();
    for program in &image.programs {
        let name = Some(program.name.as_str());
        let malformed = |what: String| Denied::Malformed(what);
        check_name(&program.name)?;
        check_name(&program.section)?;
        let section = section::parse(&program.section).map_err(|error| Denied::Never {
            program: name.map(str::to_owned),
            what: error.to_string(),
        })?;
        judge(policy.permits_program(section.kind), name)?;
        let longest = policy.max_instructions as usize;
        let length =
            Refusal { key: "max_instructions", wanted: program.instructions.len().to_string() };
        judge(if program.instructions.len() > longest { Err(length) } else { Ok(()) }, name)?;
        check_records(program).map_err(malformed)?;
        for helper in instructions::helpers(program, image.maps.len())? {
            judge(policy.permits_helper(helper), name)?;
        }
        let bound = bound(&section);
        if let Some(point) = &bound {
            judge(policy.permits_attach(section.kind, point), name)?;
        }
        programs.push(Loadable { section, bound });
    }
    Ok((programs, usage))
}

/// Programs of these kinds belong to their function or hook from the load on
/// (`bpf_check_attach_target` in kernel/bpf/verifier.c).
fn bound(section: &Section) -> Option<AttachPoint> {
    use ProgramKind::{Fentry, Fexit, Lsm, TpBtf};
    match (section.kind, &section.place) {
        (Fentry | Fexit | Lsm | TpBtf, Place::Point { point, .. }) => Some(point.clone()),
        _ => None,
    }
}

/// Says what becomes of what a policy does not grant a program or, without a name, an object.
type Judge<'a> = dyn FnMut(Result<(), Refusal>, Option<&str>) -> Result<(), Denied> + 'a;

fn count(
    image: &Image,
    policy: &Bpf,
    usage: Usage,
    processors: u64,
    judge: &mut Judge<'_>,
) -> Result<Usage, Denied> {
    let more =
        |have: u32, list: usize| have.saturating_add(u32::try_from(list).unwrap_or(u32::MAX));
    let mut usage = Usage {
        programs: more(usage.programs, image.programs.len()),
        maps: more(usage.maps, image.maps.len()),
        ..usage
    };
    for map in &image.maps {
        check_name(&map.name)?;
        usage.map_bytes =
            usage.map_bytes.saturating_add(maps::check(map, image.btf.is_empty(), processors)?);
    }
    for (key, have, most) in [
        ("max_programs", u64::from(usage.programs), u64::from(policy.max_programs)),
        ("max_maps", u64::from(usage.maps), u64::from(policy.max_maps)),
        ("map_bytes", usage.map_bytes, policy.map_bytes),
    ] {
        let refusal = Refusal { key, wanted: have.to_string() };
        judge(if have > most { Err(refusal) } else { Ok(()) }, None)?;
    }
    Ok(usage)
}

fn check_name(name: &str) -> Result<(), Denied> {
    if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
        return Err(Denied::Malformed(format!("{name:?} is no name")));
    }
    Ok(())
}

/// The records about functions and lines: whole ones.
fn check_records(program: &Program) -> Result<(), String> {
    /// The kernel takes records of at most so many bytes (`MAX_FUNCINFO_REC_SIZE`,
    /// `MAX_LINEINFO_REC_SIZE` in kernel/bpf/verifier.c).
    const LONGEST: u32 = 252;
    for (bytes, size) in
        [(&program.func_info, program.func_info_size), (&program.line_info, program.line_info_size)]
    {
        let whole = size != 0 && size <= LONGEST && bytes.len().is_multiple_of(size as usize);
        if !bytes.is_empty() && !whole {
            return Err(format!("records of {size} bytes in {}", bytes.len()));
        }
    }
    Ok(())
}
