//! Panics that become errors.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `work`. If it panics, nothing is printed, and the error is what the panic said.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                SAID.with_borrow_mut(|said| *said = words(info));
            } else {
                before(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    // Nothing that `work` was changing is looked at after a panic.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    result.map_err(|_| SAID.take())
}

fn words(info: &PanicHookInfo<'_>) -> String {
    let text = info.payload_as_str().unwrap_or("without a word");
    match info.location() {
        Some(at) => {
            let file = at.file().rsplit('/').next().unwrap_or_default();
            format!("{text} ({file}:{})", at.line())
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_what_it_said() {
        assert_eq!(caught(|| 3), Ok(3));
        let said = caught(|| -> u32 { panic!("the number {}", 7) }).unwrap_err();
        assert!(said.starts_with("the number 7 (panics.rs:"), "{said}");
        let said = caught(|| [1, 2][std::hint::black_box(5)]).unwrap_err();
        assert!(said.contains("index"), "{said}");
        assert!(!QUIET.get());
    }
}
