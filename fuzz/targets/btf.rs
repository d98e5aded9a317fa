//! Any bytes as the kernel's BTF: it is refused, or answers questions about whatever names stand
//! in it, soon.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wasi_guard_enforce::programs::btf::KernelTypes;
use wasi_guard_fuzz::within;

fuzz_target!(|data: &[u8]| {
    // An entry of an index for each type, which has 12 bytes at least, and its name.
    let Ok(types) = within(data.len() * 32 + 65536, || KernelTypes::parse(data.to_vec())) else {
        return;
    };
    let words: Vec<&str> = data
        .split(|byte| *byte == 0)
        .filter_map(|word| std::str::from_utf8(word).ok())
        .filter(|word| (1..40).contains(&word.len()))
        .take(12)
        .collect();
    for word in &words {
        let hook = word.strip_prefix("bpf_lsm_").unwrap_or(word);
        let _ = (types.has_struct(word), types.has_hook(hook));
        for other in &words {
            if let Ok(member) = types.member(word, other) {
                let _ = types.array_len(member);
            }
            let _ = types.member(word, &format!("{other}.{word}"));
            let _ = types.hook_parameter(hook, other);
        }
    }
});
