//! What the confined process does with one object after the other.

use aya_obj::btf::Btf;
use object::Endianness;

use crate::broker::Parser;
use crate::parse::{ParseError, parse};

/// Parses objects where it is, for this kernel. Only where that is a process of its own, in which
/// there is nothing to be had, may the objects be anybody's.
#[derive(Debug, Default)]
pub struct ObjectParser {
    /// The kernel's types, until an object needs them.
    types: Option<Vec<u8>>,
    /// And from then on.
    parsed: Option<Btf>,
}

impl ObjectParser {
    /// One for the kernel with these types, the content of `/sys/kernel/btf/vmlinux`.
    #[must_use]
    pub fn new(types: Option<Vec<u8>>) -> Self {
        Self { types, parsed: None }
    }
}

impl Parser for ObjectParser {
    fn parse(&mut self, object: &[u8]) -> Result<Vec<u8>, String> {
        let mut image = parse(object, self.parsed.as_ref());
        // Most objects do not need them, and to take them apart takes longer than all the rest.
        if let Err(ParseError::NoKernelTypes) = image
            && let Some(types) = self.types.take()
        {
            let parsed = Btf::parse(&types, Endianness::default());
            self.parsed =
                Some(parsed.map_err(|error| format!("read the kernel's types: {error}"))?);
            image = parse(object, self.parsed.as_ref());
        }
        let image = image.map_err(|error| error.to_string())?;
        image.encode().map_err(|error| error.to_string())
    }
}
