//! Any object of a guest's: it is refused in words, or has an image, within bounds of time and
//! memory. Not always the same one: aya-obj goes through its tables in an order that changes from
//! one time to the next, which decides about objects that contradict themselves. The broker believes
//! nothing of either.

#![no_main]

use std::sync::LazyLock;

use aya_obj::btf::Btf;
use libfuzzer_sys::fuzz_target;
use object::Endianness;
use wasi_guard_broker::image::MAX_IMAGE;
use wasi_guard_broker::parse::parse;
use wasi_guard_fuzz::object::{kernel, object as made};
use wasi_guard_fuzz::within;

/// What the parser's process may have, less what it has before it begins.
const BYTES: usize = 200 << 20;

static KERNEL: LazyLock<Btf> =
    LazyLock::new(|| Btf::parse(&kernel(), Endianness::Little).expect("the types of a kernel"));

fuzz_target!(|data: &[u8]| {
    let object = made(data);
    let kernel = Some(&*KERNEL);
    match within(BYTES, || parse(&object, kernel)) {
        Ok(image) => {
            assert!(image.maps.len() <= 256 && image.programs.len() <= 256);
            let bytes = postcard::to_stdvec(&image).expect("an image can be sent");
            assert!(bytes.len() <= MAX_IMAGE);
            let received: wasi_guard_broker::image::Image =
                postcard::from_bytes(&bytes).expect("and received");
            assert_eq!(received, image);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
