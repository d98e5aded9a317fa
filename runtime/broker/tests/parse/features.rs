//! What cannot be loaded is named.

use wasi_guard_broker::parse::{ParseError, parse};

use crate::objects::{compile, image, named, of, refused};

fn lacks(object: &[u8], word: &str) {
    let error = refused(object);
    let is_feature = matches!(error, ParseError::Unsupported(_) | ParseError::Section(_));
    assert!(is_feature, "{error:?}");
    assert!(error.to_string().contains(word), "{error}");
}

#[test]
fn sections_that_guests_cannot_have() {
    for (section, word) in [
        ("iter/task", "iterators"),
        ("usdt//bin/true:a:b", "static probes"),
        ("syscall", "bpf(2)"),
        ("struct_ops/f", "operations of the kernel"),
        ("fmod_ret/f", "change what functions return"),
        ("nothing/at/all", "no kind of program"),
        ("?tp/sched/sched_switch", "on demand"),
        ("tp/sched", "CATEGORY/NAME"),
    ] {
        lacks(&of(&format!("SEC(\"{section}\") int f(void *context) {{ return 0; }}")), word);
    }
}

#[test]
fn symbols_of_others() {
    lacks(
        &of("extern int CONFIG_HZ __attribute__((section(\".kconfig\")));
             SEC(\"xdp\") int f(void *context) { return CONFIG_HZ; }"),
        "CONFIG_HZ",
    );
    lacks(
        &of("extern const void init_task __attribute__((section(\".ksyms\")));
             SEC(\"xdp\") int f(void *context) { return (long)&init_task; }"),
        "init_task",
    );
    lacks(
        &of("extern int bpf_xdp_get_xfrm_state(void *) __attribute__((section(\".ksyms\")));
             SEC(\"xdp\") int f(void *context) { return bpf_xdp_get_xfrm_state(context); }"),
        "bpf_xdp_get_xfrm_state",
    );
    lacks(
        &of("int elsewhere(void); SEC(\"xdp\") int f(void *context) { return elsewhere(); }"),
        "elsewhere",
    );
}

#[test]
fn kinds_of_maps() {
    for (kind, word) in
        [("USER_RINGBUF", "ring buffer from user"), ("ARENA", "an arena"), ("99", "kind 99")]
    {
        lacks(
            &of(&format!(
                "struct {{ NUMBER(type, {kind}); NUMBER(max_entries, 4096); }} m SEC(\".maps\");
                 SEC(\"xdp\") int f(void *context) {{ return map_pop(&m, context); }}"
            )),
            word,
        );
    }
    lacks(
        &of("SEC(\"xdp\") int f(void *context);
             struct { NUMBER(type, PROG_ARRAY); NUMBER(max_entries, 1); TYPE(key, u32);
                 int (*values[])(void *); } m SEC(\".maps\") = { .values = { &f } };
             int f(void *context) { return map_pop(&m, context); }"),
        "initial values",
    );
}

#[test]
fn functions_in_several_sections() {
    lacks(
        &of("static NOINLINE __attribute__((section(\".text.other\"))) int one(int a)
                 { return trace_printk(\"\", a); }
             static NOINLINE int two(int a) { return trace_printk(\"\", a) + 1; }
             SEC(\"xdp\") int f(int *context) { return one(*context) + two(*context); }"),
        "more than one section",
    );
    lacks(&of("static SEC(\"xdp\") int f(void *context) { return 0; }"), "static program f");
}

#[test]
fn without_the_kernels_types() {
    let error = parse(&named("runqlat"), None).unwrap_err();
    assert!(matches!(error, ParseError::NoKernelTypes), "{error}");
    // Who does not ask for them does not miss them.
    assert!(parse(&named("maps"), None).is_ok());
}

#[test]
fn a_license_is_what_the_object_says() {
    let without =
        compile("__attribute__((section(\"xdp\"), used)) int f(void *context) { return 0; }");
    assert_eq!(image(&without).license, "");
    let other =
        compile("#include \"bpf.h\"\nSEC(\"xdp\") int f(void *c) { return 0; } LICENSE(\"MIT\");");
    assert_eq!(image(&other).license, "MIT");
}

#[test]
fn what_is_no_object() {
    for (bytes, word) in [
        (&b""[..], "no 64-bit ELF"),
        (b"\x7fELF", "no 64-bit ELF"),
        (b"#!/bin/sh\n", "no 64-bit ELF"),
    ] {
        let error = refused(bytes);
        assert!(matches!(error, ParseError::NoObject(_)), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let program = std::fs::read("/proc/self/exe").unwrap();
    let error = refused(&program[..program.len().min(1 << 20)]);
    assert!(error.to_string().contains("another machine"), "{error}");
    let error = refused(&vec![0; (8 << 20) + 1]);
    assert!(matches!(error, ParseError::TooLarge(_)), "{error}");
}
