//! Makes an [`Image`] of an object's bytes, with aya-obj.
//!
//! This is the parser of the confined process that looks at a guest's object. Its input is hostile,
//! and aya-obj was not made for hostile objects: it panics at some, takes memory and time without
//! bounds at others. So [`check`] and [`types`] look at the file first, refuse what no compiler
//! makes, and bound everything that aya would copy, repeat or follow; what still panics becomes an
//! error here. What they let through and aya misunderstands is harmless: the broker believes
//! nothing of an image.
//!
//! ```text
//!  bytes ─ elf ─► check, types ─► rename ─► aya-obj ─► build ─► Image
//! ```

mod build;
mod calls;
mod check;
mod elf;
mod ext;
mod panics;
mod rename;
mod types;

use std::error::Error;

use aya_obj::btf::Btf;

use crate::image::{Image, MAX_IMAGE, MAX_OBJECT};
use crate::section::SectionError;

/// Why an object cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It is none.
    #[error("this is no BPF object: {0}")]
    NoObject(&'static str),
    /// It is larger than objects or images may be, or has more of something.
    #[error("the object is too large: {0}")]
    TooLarge(String),
    /// It contradicts itself.
    #[error("the object is damaged: {0}")]
    Damaged(String),
    /// It is sound, and needs something that this loader does not have.
    #[error("the object needs {0}, which this loader does not have")]
    Unsupported(String),
    /// A program stands in a section that guests cannot have.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// It adapts itself to the kernel's types, and these are not known.
    #[error(
        "the object adapts itself to the kernel's types (CO-RE), and this kernel does not tell \
         them: there is no /sys/kernel/btf/vmlinux"
    )]
    NoKernelTypes,
    /// aya-obj could not read or relocate it.
    #[error("cannot {step}: {why}")]
    Aya {
        /// What it was about to do.
        step: &'static str,
        /// What it says.
        why: String,
    },
    /// aya-obj panicked.
    #[error("the object is damaged: {0}")]
    Panicked(String),
}

impl ParseError {
    fn aya(step: &'static str, error: &dyn Error) -> Self {
        let mut why = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            why = format!("{why}: {error}");
            source = error.source();
        }
        Self::Aya { step, why }
    }
}

/// Makes an image of an object, whose accesses to the kernel's types become those of `kernel`.
///
/// # Errors
/// If it is no object, a damaged one or too large, or needs what is not there.
pub fn parse(object: &[u8], kernel: Option<&Btf>) -> Result<Image, ParseError> {
    if object.len() > MAX_OBJECT {
        let why = format!("{} bytes, {MAX_OBJECT} are the most", object.len());
        return Err(ParseError::TooLarge(why));
    }
    panics::caught(|| parse_checked(object, kernel)).unwrap_or_else(|why| {
        // With words of ours: those of the panic are for who has aya's source.
        Err(ParseError::Panicked(format!("aya-obj panicked: {why}")))
    })
}

fn parse_checked(object: &[u8], kernel: Option<&Btf>) -> Result<Image, ParseError> {
    // A copy: it is changed, and begins where the file's tables are aligned.
    let mut bytes = object.to_vec();
    let elf = elf::Elf::read(&bytes)?;
    let checked = check::check(&elf)?;
    let types = types::Types::check(&elf)?;
    types.records.bound(&elf, &checked)?;
    let sections: Vec<String> = elf.sections.iter().map(|it| it.name.to_owned()).collect();
    let licensed = elf.named("license").is_some();
    let edits = rename::edits(&elf, &types, &checked)?;
    rename::apply(&mut bytes, edits);
    let mut image = build::image(&bytes, kernel, &sections)?;
    if !licensed {
        // aya takes such an object for one under the GPL.
        image.license.clear();
    }
    let size = postcard::serialize_with_flavor(&image, postcard::ser_flavors::Size::default());
    match size {
        Ok(size) if size <= MAX_IMAGE => Ok(image),
        _ => Err(ParseError::TooLarge(format!("more than {MAX_IMAGE} bytes when it is linked"))),
    }
}
