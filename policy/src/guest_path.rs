//! Paths as a guest writes them, mapped to names below preopens.

use crate::model::Policy;

/// A name below a preopen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// Index into [`Policy::preopens`].
    pub preopen: usize,
    /// The path's components; empty: the preopen itself.
    pub components: Vec<Vec<u8>>,
}

impl Name {
    /// A name from a relative path such as `a/b.txt`; an empty path is the preopen itself.
    pub fn new(preopen: usize, path: impl AsRef<[u8]>) -> Self {
        let components = names(path.as_ref()).into_iter().map(<[u8]>::to_vec).collect();
        Self { preopen, components }
    }
}

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Below a preopen. Where preopens are nested, the innermost one.
    Under(Name),
    /// Below none.
    Outside,
}

impl Place {
    /// As [`Name::new`].
    pub fn under(preopen: usize, path: impl AsRef<[u8]>) -> Self {
        Self::Under(Name::new(preopen, path))
    }
}

/// Why a path cannot be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestPathError {
    /// It has a component `..`; where that leads depends on symbolic links.
    #[error("the path has a component `..`; write the path that it leads to")]
    Parent,
    /// It has a NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
}

impl Policy {
    /// Maps a path of the guest (`/data/in.csv`) to the preopen with the longest matching name.
    /// A leading `/` and components `.` make no difference, as in wasi-libc.
    ///
    /// # Errors
    /// [`GuestPathError`]; symbolic links are not followed.
    pub fn locate(&self, path: &[u8]) -> Result<Place, GuestPathError> {
        if path.contains(&0) {
            return Err(GuestPathError::Nul);
        }
        let path = names(path);
        if path.contains(&&b".."[..]) {
            return Err(GuestPathError::Parent);
        }
        let found = self
            .preopens
            .iter()
            .enumerate()
            .map(|(index, preopen)| (index, names(preopen.guest.as_bytes())))
            .filter(|(_, guest)| path.starts_with(guest))
            .max_by_key(|(_, guest)| guest.len());
        Ok(match found {
            Some((preopen, guest)) => {
                let below = path.get(guest.len()..).unwrap_or_default();
                let components = below.iter().map(|name| name.to_vec()).collect();
                Place::Under(Name { preopen, components })
            }
            None => Place::Outside,
        })
    }
}

/// The components of a path without empty ones and `.`.
pub(crate) fn names(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::Grants;

    #[test]
    fn the_longest_guest_name_decides() {
        let grants = Grants {
            dirs: vec![("a".into(), "/data".into()), ("b".into(), "/data/in".into())],
            ..Grants::default()
        };
        let policy = Policy::from_grants(&grants);
        assert_eq!(policy.locate(b"/data/in/x"), Ok(Place::under(1, "x")));
        assert_eq!(policy.locate(b"data//./inn/x"), Ok(Place::under(0, "inn/x")));
        assert_eq!(policy.locate(b"/data"), Ok(Place::under(0, "")));
        assert_eq!(policy.locate(b"/etc"), Ok(Place::Outside));
        assert_eq!(policy.locate(b"/data/../etc"), Err(GuestPathError::Parent));
        assert_eq!(policy.locate(b"/data/\0"), Err(GuestPathError::Nul));
    }
}
