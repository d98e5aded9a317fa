//! Which fault this process was started with, and what it does.

use std::{
    ffi::CString,
    io,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use super::Point;
use crate::sys;

/// The environment variable that chooses a fault, as [`Fault`] is written.
pub const VARIABLE: &str = "WASI_GUARD_TEST_FAULT";

/// One fault: `POINT=kill` or `POINT=ERRNO`, `POINT@N=...` at the Nth time that it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub point: Point,
    /// At which time, from 1.
    pub count: u32,
    /// The error of the call; `None` is SIGKILL.
    pub errno: Option<i32>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { point, count, errno } = self;
        let errno = errno.map_or_else(|| "kill".to_owned(), |errno| errno.to_string());
        write!(f, "{}@{count}={errno}", point.name())
    }
}

impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let (place, what) = text.split_once('=')?;
        let (name, count) = place.split_once('@').unwrap_or((place, "1"));
        let point = Point::ALL.iter().copied().find(|point| point.name() == name)?;
        let errno = if what == "kill" { None } else { Some(what.parse().ok()?) };
        Some(Self { point, count: count.parse().ok()?, errno })
    }
}

struct Chosen {
    fault: Fault,
    reached: AtomicU32,
}

fn chosen() -> Option<&'static Chosen> {
    static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let fault = Fault::parse(&std::env::var(VARIABLE).ok()?)?;
        Some(Chosen { fault, reached: AtomicU32::new(0) })
    });
    chosen.as_ref()
}

pub(super) fn reach(point: Point) -> io::Result<()> {
    let Some(chosen) = chosen().filter(|chosen| chosen.fault.point == point) else {
        return Ok(());
    };
    if chosen.reached.fetch_add(1, Ordering::Relaxed) + 1 != chosen.fault.count {
        return Ok(());
    }
    match chosen.fault.errno {
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => sys::kill_myself(),
    }
}

pub(super) fn environment() -> Vec<CString> {
    let value = std::env::var(VARIABLE).ok();
    value.and_then(|value| CString::new(format!("{VARIABLE}={value}")).ok()).into_iter().collect()
}
