use super::*;

/// Also: the arrangement by beginnings finds what the comparison finds.
fn covered(reach: Reach, outer: &str, inner: &str) -> bool {
    let [outer, inner] = [outer, inner].map(|text| Pattern::parse(text).unwrap());
    let other = Pattern::parse("other/x").unwrap();
    let found = Shadows::of(reach, [&other, &outer]).first_over(&inner) == Some(1);
    assert_eq!(found, covers_all(reach, &outer, &inner), "{outer} {inner}");
    found
}

fn denies(outer: &str, inner: &str) -> bool {
    covered(Reach::Below, outer, inner)
}

#[test]
fn proven_shadows() {
    for (outer, inner) in [
        ("**", "a/b"),
        (".", "**"),
        ("secret", "secret/a/b"),
        ("secret", "secret/**"),
        ("secret/**", "secret/**"),
        ("secret/**", "secret/a"),
        ("secret/*", "secret/**"),
        ("**/*.pem", "keys/a.pem"),
        ("**/*.pem", "a.pem/b"),
        ("**/*.pem", "**/a*.pem"),
        ("*", "a"),
        ("*", "**/a"),
        ("a/**/b", "a/b"),
        ("a/**/b", "a/x/*/b/c"),
        ("a/**/b", "a/**/b"),
        ("{a,b}", "{b,a}/c"),
        ("[a-f]?", "[b-c]x"),
    ] {
        assert!(denies(outer, inner), "{outer} denies all of {inner}");
    }
}

#[test]
fn no_shadow_where_a_name_stays_free() {
    for (outer, inner) in [
        ("secret/**", "secret"),
        ("secret/**", "**"),
        ("*", "**"),
        ("a/*", "a"),
        ("a/*/*", "a/**"),
        ("**/*.pem", "**"),
        ("a/**/b", "a/**/c"),
        ("a/**", "**/a"),
        ("a", "{a,b}"),
        ("?", "*"),
        ("a?", "a"),
        ("[!a]", "?"),
        ("**/x", "**"),
        ("a/**/b", "a/**"),
    ] {
        assert!(!denies(outer, inner), "{outer} does not deny all of {inner}");
    }
}

#[test]
fn wider_rules_of_the_same_list() {
    for (outer, inner) in [
        ("**", "."),
        (".", "."),
        ("**", "a/b"),
        ("a/**", "a/b"),
        ("a/**", "a/*/c/**"),
        ("*", "a"),
        ("**/*.csv", "out/*.csv"),
        ("**/*.csv", "a.csv"),
        ("a/**/b", "a/b"),
        ("a/**/b", "a/**/x/b"),
        ("[a-c]*", "b{1,2}"),
    ] {
        assert!(covered(Reach::Names, outer, inner), "{outer} covers {inner}");
    }
    for (outer, inner) in [
        (".", "a"),
        ("a/**", "a"),
        ("a", "a/b"),
        ("*", "a/b"),
        ("*", "."),
        ("a/**", "."),
        ("*", "**"),
        ("**/*.csv", "a.csv/b"),
        ("a/**/b", "a/b/c"),
        ("?", "ä/b"),
        ("*a", "*"),
    ] {
        assert!(!covered(Reach::Names, outer, inner), "{outer} does not cover {inner}");
    }
}

#[test]
fn of_two_that_cover_each_other_the_later_one_is_covered() {
    let patterns = ["{a,b}", "{b,a}", "a", "x/y", "x/*", "x/*"].map(Pattern::parse);
    let patterns: Vec<Pattern> = patterns.into_iter().map(Result::unwrap).collect();
    let shadows = Shadows::of(Reach::Names, &patterns);
    let found: Vec<_> = (0..6).map(|number| shadows.first_over_own(number)).collect();
    assert_eq!(found, [None, Some(0), Some(0), Some(4), None, Some(4)]);
}
