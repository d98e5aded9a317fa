//! What a section's name says after its first slash.

use wasi_guard_policy::bpf::AttachPoint;

use super::Place;
use super::table::Rest;

/// The kernel's names of the functions behind system calls begin so.
const SYSTEM_CALL: &str = if cfg!(target_arch = "aarch64") { "__arm64_sys_" } else { "__x64_sys_" };

/// Reads it.
pub(super) fn place(rest: Rest, text: &str) -> Result<Place, &'static str> {
    match rest {
        Rest::Cgroup => return Ok(Place::Cgroup),
        Rest::Interface => return Ok(Place::Interface),
        Rest::Nothing => return Ok(Place::Unsaid),
        _ if text.is_empty() => return Ok(Place::Unsaid),
        _ => {}
    }
    let (point, offset) = match rest {
        Rest::Tracepoint => {
            let (category, name) =
                text.split_once('/').ok_or("names no tracepoint: CATEGORY/NAME")?;
            let (category, name) = (event(category)?, event(name)?);
            (AttachPoint::Tracepoint { category, name }, 0)
        }
        Rest::RawTracepoint => (AttachPoint::RawTracepoint { name: event(text)? }, 0),
        Rest::Probe => {
            let (name, offset) = with_offset(text)?;
            (AttachPoint::Function { name: function(name)? }, offset)
        }
        Rest::Function => (AttachPoint::Function { name: function(text)? }, 0),
        Rest::SystemCall => {
            let name = format!("{SYSTEM_CALL}{}", event(text)?);
            (AttachPoint::Function { name }, 0)
        }
        Rest::Uprobe => uprobe(text)?,
        Rest::Hook => (AttachPoint::LsmHook { name: event(text)? }, 0),
        _ => (AttachPoint::PerfEvent { counter: counter(text)? }, 0),
    };
    Ok(Place::Point { point, offset })
}

fn uprobe(text: &str) -> Result<(AttachPoint, u64), &'static str> {
    let (path, symbol) = text.rsplit_once(':').ok_or("names no function: PATH:FUNCTION")?;
    if path.is_empty() || path.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("has no path of a program or library");
    }
    let (symbol, offset) = with_offset(symbol)?;
    // Symbols of C++ and Rust are made of these, and versions stand after an at sign.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$@".contains(&byte);
    let symbol = checked(symbol, fits, "has no name of a function after the colon")?;
    Ok((AttachPoint::Uprobe { path: path.to_owned(), symbol }, offset))
}

/// `NAME+OFFSET`.
fn with_offset(text: &str) -> Result<(&str, u64), &'static str> {
    let Some((name, offset)) = text.split_once('+') else { return Ok((text, 0)) };
    let number = match offset.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => offset.parse(),
    };
    match number {
        // Neither `from_str_radix` nor `parse` minds a second plus.
        Ok(number) if !offset.contains('+') => Ok((name, number)),
        _ => Err("has no number after its plus"),
    }
}

/// Names of tracepoints and hooks.
fn event(name: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    checked(name, fits, "has something else than letters, digits and underscores for a name")
}

/// Functions of the kernel: compilers append `.isra.0` and the like.
fn function(name: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
    checked(name, fits, "has no name of a function")
}

fn counter(name: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    checked(name, fits, "has no name of a counter")
}

fn checked(
    name: &str,
    fits: impl Fn(u8) -> bool,
    why: &'static str,
) -> Result<String, &'static str> {
    if name.is_empty() || !name.bytes().all(fits) { Err(why) } else { Ok(name.to_owned()) }
}
