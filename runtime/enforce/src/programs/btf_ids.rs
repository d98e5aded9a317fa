//! Numbers of the kernel's types by their names, without an index of all of them: of the hundred
//! thousand a caller wants one or a few.

use super::btf::{KIND_FUNC, KIND_TYPEDEF, read_running_kernel, types_of, u32_at};
use crate::error::{Error, Result};

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A function (`BTF_KIND_FUNC`).
    Function,
    /// A typedef.
    Typedef,
}

/// The numbers of these in the running kernel's types; `None` for what it does not have. Of several
/// with the same name the first.
///
/// # Errors
/// If the kernel has no types, or they cannot be understood.
pub fn ids_in_running_kernel(wanted: &[(Named, &str)]) -> Result<Vec<Option<u32>>> {
    find(&read_running_kernel()?, wanted)
        .ok_or_else(|| Error::new("understand the kernel's type information"))
}

/// [`ids_in_running_kernel`] in other data; `None` if that is damaged.
fn find(data: &[u8], wanted: &[(Named, &str)]) -> Option<Vec<Option<u32>>> {
    let (types, strings) = types_of(data)?;
    let strings = data.get(strings)?;
    let mut found = vec![None; wanted.len()];
    for (id, at) in (1..).zip(types) {
        let at = at?;
        let kind = match u32_at(data, at + 4)? >> 24 & 0x1f {
            KIND_FUNC => Named::Function,
            KIND_TYPEDEF => Named::Typedef,
            _ => continue,
        };
        let name = strings.get(u32_at(data, at)? as usize..)?;
        for (found, (_, wanted)) in found.iter_mut().zip(wanted).filter(|(_, it)| it.0 == kind) {
            let rest = name.strip_prefix(wanted.as_bytes());
            if found.is_none() && rest.is_some_and(|rest| rest.first() == Some(&0)) {
                *found = Some(id);
            }
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::super::btf::tests::sample;
    use super::*;

    #[test]
    fn names_are_found_whole_and_of_their_kind() {
        let wanted = [
            (Named::Function, "bpf_lsm_h"),
            (Named::Function, "bpf_lsm_"),
            (Named::Function, "lsm_h"),
            (Named::Typedef, "bpf_lsm_h"),
            (Named::Function, "outer"),
        ];
        assert_eq!(find(&sample(), &wanted), Some(vec![Some(5), None, None, None, None]));
        assert_eq!(find(&sample(), &wanted[..1]), Some(vec![Some(5)]));
        assert_eq!(find(&sample(), &[]), Some(vec![]));
    }

    #[test]
    fn damaged_data_is_an_answer_not_a_panic() {
        let good = sample();
        let wanted = [(Named::Function, "bpf_lsm_h"), (Named::Typedef, "none")];
        for len in 0..good.len() {
            let _ = find(&good[..len], &wanted);
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let _ = find(&bad, &wanted);
        }
    }
}
