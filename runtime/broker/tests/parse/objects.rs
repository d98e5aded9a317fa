//! Images of objects.

use aya_obj::btf::Btf;
use object::{Endianness, Object as _, ObjectSection as _};
use wasi_guard_broker::image::Image;
use wasi_guard_broker::parse::{ParseError, parse};

pub(crate) use crate::compile::{compile, named, of};

/// Types of a kernel whose structs have other members, in other places, than the objects tell.
pub(crate) fn kernel() -> Btf {
    let object = compile(
        "struct signal_struct { long a; int group_exit_code; };
         struct task_struct {
             unsigned int __state; char before[100]; int pid; int tgid; long b;
             struct task_struct *real_parent; struct signal_struct *signal; int exit_code;
             char comm[16];
         };
         struct sock_common { long c; unsigned short skc_family, skc_dport; };
         struct sock { long d; struct sock_common __sk_common; };
         struct task_struct task; struct sock sock; struct signal_struct signal;",
    );
    let file = object::File::parse(&*object).unwrap();
    let section = file.section_by_name(".BTF").unwrap();
    Btf::parse(section.data().unwrap(), Endianness::Little).unwrap()
}

/// The image of an object that has one.
pub(crate) fn image(object: &[u8]) -> Image {
    match parse(object, Some(&kernel())) {
        Ok(image) => image,
        Err(error) => panic!("{error}"),
    }
}

/// Why an object has none.
pub(crate) fn refused(object: &[u8]) -> ParseError {
    match parse(object, Some(&kernel())) {
        Ok(image) => panic!("it has an image: {image:?}"),
        Err(error) => error,
    }
}
