use wasi_guard_abi::operation::{Operation, Reason};

use super::*;
use crate::{Source, load};

const TEXT: &str = r#"version = 1
[[preopen]]
guest = "/data"
host = "./data"
read = ["**"]
write = ["out/**"]
create = ["out/**"]
delete = ["in/*", "out/tmp"]
deny = ["**/*.pem", "key"]
[network]
connect = ["tcp://127.0.0.1:80", "tcp://127.0.0.0/8:*"]
"#;

fn ask(operation: &str, objects: &[&str]) -> Result<String, String> {
    let policy = load(&Source::new("test", TEXT)).unwrap().0;
    let question = Question::new(operation, objects.iter().copied());
    explain(&policy, &Addresses::new(), &question)
        .map(|answer| answer.to_string())
        .map_err(|error| error.to_string())
}

#[test]
fn answers_name_the_deciding_line_and_the_runner_up() {
    for (operation, objects, wanted) in [
        (
            "read",
            &["/data/a"][..],
            "allowed\n  granted by read \"**\" (line 5)\n  \
             without it: denied: no rule grants it\n  needed: read; has: read, stat",
        ),
        ("write", &["/data/a"], "denied\n  no rule grants it\n  needed: write; has: read, stat"),
        (
            "stat",
            &["/data/a.pem"],
            "denied\n  denied by deny \"**/*.pem\" (line 9)\n  \
             without it: allowed by read \"**\" (line 5)\n  needed: stat; has: none",
        ),
        (
            "read",
            &["/data/key/a.pem"],
            "denied\n  denied by deny \"key\" (line 9)\n  \
             without it: still denied by deny \"**/*.pem\" (line 9)\n  needed: read; has: none",
        ),
        (
            "stat",
            &["/etc"],
            "denied\n  it lies below none of the policy's preopens\n  needed: stat; has: none",
        ),
        (
            "connect",
            &["127.0.0.1:80"],
            "allowed\n  granted by connect \"tcp://127.0.0.1:80\" (line 11)\n  \
             without it: still allowed by connect \"tcp://127.0.0.0/8:*\" (line 11)",
        ),
        ("send", &["127.0.0.1:80"], "denied\n  no rule grants it"),
        ("socket_create", &["udp"], "denied\n  no rule grants it"),
        ("exec", &[], "denied\n  no policy can grant it"),
        (
            "rename",
            &["/data/out/tmp", "/data/out/a"],
            "allowed\n  granted by delete \"out/tmp\" (line 8)\n  \
             without it: denied: no rule grants it\n  \
             needed: delete; has: read, write, create, delete, stat\n  \
             the new name granted by create \"out/**\" (line 7)",
        ),
        (
            "replace",
            &["/data/out/tmp", "/data/out/a"],
            "denied\n  no rule grants it\n  needed at the new name: create, delete; has: read, \
             write, create, stat",
        ),
        (
            "rename",
            &["/data/in/a", "/data/out/a"],
            "denied\n  the new name would give rights that the old one does not\n  rights at the \
             old name: read, delete, stat; carried rights at the new name: read, write, stat",
        ),
    ] {
        assert_eq!(ask(operation, objects).as_deref(), Ok(wanted), "{operation} {objects:?}");
    }
}

/// What the kernel side knows can be asked, with as many objects as it takes and no more.
#[test]
fn every_operation_has_an_answer() {
    let policy = load(&Source::new("test", TEXT)).unwrap().0;
    for word in operation_names() {
        let operation = Question::new(word, [""; 0]).kernel_operation().unwrap();
        let candidates: [&[&str]; 5] =
            [&[], &["/data/a"], &["/data/a", "/data/b"], &["127.0.0.1:1"], &["tcp"]];
        let answers: Vec<_> = candidates
            .into_iter()
            .filter_map(|objects| {
                let question = Question::new(word, objects.iter().copied());
                explain(&policy, &Addresses::new(), &question).ok()
            })
            .collect();
        assert!(!answers.is_empty(), "{word}");
        for answer in answers {
            assert_eq!(answer.attempt.operation(), operation);
            // Nothing to name means that nothing could change the answer.
            if Question::new(word, [""; 0]).attempt(&policy).is_ok() {
                assert_eq!(answer.verdict.reason, Some(Reason::Never), "{word}");
            }
        }
    }
    for operation in Operation::EVERY {
        assert!(operation_names().contains(&operation.name()));
    }
}

#[test]
fn forms_of_rename_are_what_they_say() {
    let policy = load(&Source::new("test", TEXT)).unwrap().0;
    let attempt = |form: &str| {
        let question = Question::new(form, ["/data/a", "/data/b"]);
        match question.attempt(&policy).unwrap() {
            Attempt::Rename { from_is_dir, target, exchange, .. } => {
                (from_is_dir, target == crate::evaluate::Target::Absent, exchange)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(attempt("rename"), (false, true, false));
    assert_eq!(attempt("rename_dir"), (true, true, false));
    assert_eq!(attempt("replace"), (false, false, false));
    assert_eq!(attempt("exchange"), (false, false, true));
}

#[test]
fn questions_that_are_none_are_refused() {
    let error = |operation, objects: &[&str]| ask(operation, objects).unwrap_err();
    assert!(error("frobnicate", &["/data"]).starts_with("unknown operation `frobnicate`"));
    assert!(error("rename", &["/data/a"]).contains("needs two paths"));
    assert_eq!(error("read", &[]), "`read` needs a path of the guest");
    assert_eq!(error("read", &["/a", "/b"]), "too many objects: `read` takes one, not 2");
    assert_eq!(error("exec", &["/bin/sh"]), "too many objects: `exec` takes none, not 1");
    assert!(error("read", &["/data/../x"]).contains("/data/../x"));
    assert!(error("connect", &["tcp://10.0.0.0/8:80"]).contains("not a single address"));
    assert!(error("connect", &["nowhere"]).contains("is no address"));
    assert!(error("socket_create", &["icmp"]).contains("`tcp` or `udp`"));
}
