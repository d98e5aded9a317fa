//! Each call that does not call back, with arguments that are right and arguments that are not.

use wasi_guard_broker::protocol::MAX_TEXT;

use super::machine::Guest;

const PAGE: i64 = 65536;
const EBADF: i64 = -9;
const EFAULT: i64 = -14;
const EINVAL: i64 = -22;
const ENOENT: i64 = -2;

/// A guest with an object.
fn loaded() -> (Guest, i64) {
    let mut guest = Guest::new("");
    let object = guest.call("load", [0, 100]);
    assert!(object > 0);
    (guest, object)
}

/// The map with this name.
fn map(guest: &mut Guest, object: i64, name: &str) -> i64 {
    let name = guest.put(60_000, format!("{name}\0").as_bytes());
    guest.call("map", [object, name])
}

#[test]
fn objects_are_loaded_from_wherever_they_are() {
    let mut guest = Guest::new("");
    for (pointer, size, good) in [
        (0, 1, true),
        (0, PAGE, true),
        (PAGE - 1, 1, true),
        (7, 40_001, true),
        (0, 0, true),
        (PAGE, 1, false),
        (PAGE - 1, 2, false),
        (0, PAGE + 1, false),
        (-1, 1, false),
        (1, -1, false),
        (i64::from(i32::MIN), i64::from(i32::MIN), false),
        (0, (8 << 20) + 1, false),
    ] {
        let object = guest.call("load", [pointer, size]);
        assert_eq!(object > 0, good, "{pointer} {size}: {object}");
        let asked = if good { vec![format!("load {size}")] } else { vec![] };
        assert_eq!(guest.asked(), asked, "{pointer} {size}");
        assert!(good || object == 0);
    }
    guest.put(0, b"bad");
    assert_eq!(guest.call("load", [0, 100]), 0);
}

#[test]
fn closed_objects_are_gone_with_their_maps() {
    let (mut guest, object) = loaded();
    let ring = map(&mut guest, object, "ring");
    let hash = map(&mut guest, object, "hash");
    assert!(ring >= 0 && hash >= 0);
    for other in [0, -1, i64::MIN, i64::MAX, object + 1] {
        assert_eq!(guest.call("close", [other]), EBADF, "{other}");
    }
    assert_eq!(guest.call("operate", [hash, 3, 0, 0, 0, 0]), ENOENT);
    assert_eq!(guest.call("close", [object]), 0);
    assert_eq!(guest.call("close", [object]), EBADF);
    assert_eq!(guest.call("operate", [hash, 3, 0, 0, 0, 0]), EBADF);
    assert_eq!(guest.call("lost", [object, ring]), EBADF);
    assert_eq!(map(&mut guest, object, "ring"), EBADF);
    assert_eq!(guest.call("attach", [object, 0, 0]), EBADF);
}

#[test]
fn programs_are_attached_where_they_say_or_where_the_guest_says() {
    let (mut guest, object) = loaded();
    guest.asked();
    let name = guest.put(100, b"prog\0");
    let target = guest.put(200, b"eth0\0\0");
    for (target, said) in [(0, "auto"), (target + 4, "auto"), (target, "named eth0")] {
        assert_eq!(guest.call("attach", [object, name, target]), 0);
        assert_eq!(guest.asked(), [format!("attach prog {said}")]);
    }
    for (descriptor, said) in [(-1, "auto"), (3, "preopen 0"), (7, "preopen 4")] {
        assert_eq!(guest.call("attach_fd", [object, name, descriptor]), 0);
        assert_eq!(guest.asked(), [format!("attach prog {said}")]);
    }
    for descriptor in 0..3 {
        assert_eq!(guest.call("attach_fd", [object, name, descriptor]), EBADF);
    }
    assert_eq!(guest.asked(), [""; 0]);
    let missing = guest.put(300, b"missing\0");
    assert_eq!(guest.call("attach", [object, missing, 0]), ENOENT);
    for other in [0, -1, i64::MIN] {
        assert_eq!(guest.call("attach", [other, name, 0]), EBADF, "{other}");
        assert_eq!(guest.call("attach_fd", [other, name, -1]), EBADF, "{other}");
    }
}

#[test]
fn texts_that_are_none_are_never_asked_about() {
    let (mut guest, object) = loaded();
    let good = guest.put(100, b"prog\0");
    let binary = guest.put(200, b"\xff\xfe\0");
    let long = guest.put(1000, &[b'x'; MAX_TEXT + 1]);
    let endless = guest.put(PAGE as usize - 10, &[b'x'; 10]);
    guest.asked();
    for (bad, errno) in
        [(binary, EINVAL), (long, -36), (endless, EFAULT), (PAGE, EFAULT), (-1, EFAULT)]
    {
        assert_eq!(guest.call("map", [object, bad]), errno, "{bad}");
        assert_eq!(guest.call("attach", [object, bad, 0]), errno, "{bad}");
        assert_eq!(guest.call("attach", [object, good, bad]), errno, "{bad}");
        assert_eq!(guest.call("attach_fd", [object, bad, -1]), errno, "{bad}");
    }
    assert_eq!(guest.asked(), [""; 0]);
    // The longest that there can be.
    guest.put(1000 + MAX_TEXT, &[0]);
    assert_eq!(guest.call("map", [object, long]), ENOENT);
    assert_eq!(guest.asked().len(), 1);
    // It ends where the memory does.
    guest.put(PAGE as usize - 5, b"hash\0");
    assert!(guest.call("map", [object, PAGE - 5]) > 0);
}

#[test]
fn maps_are_read_and_written_in_all_three_forms() {
    for form in ["operate", "operate64", "operate65"] {
        let (mut guest, object) = loaded();
        let map = map(&mut guest, object, "hash");
        for number in [5u32, 9] {
            guest.put(1000, &number.to_le_bytes());
            guest.put(1004, &[number as u8; 8]);
            assert_eq!(guest.call(form, [map, 2, 1000, 1004, -1, 1]), 0);
        }
        // runqlat's way: a key that is not there is before the first.
        let mut keys = Vec::new();
        guest.put(2000, &(-2i32).to_le_bytes());
        while guest.call(form, [map, 4, 2000, 0, 2000, 0]) == 0 {
            keys.push(guest.memory()[2000]);
        }
        assert_eq!(keys, [5, 9]);
        assert_eq!(guest.call(form, [map, 4, 0, 0, 2000, 0]), 0);
        assert_eq!(guest.memory()[2000], 5);
        assert_eq!(guest.call(form, [map, 1, 2000, 3000, 0, 4]), 0);
        assert_eq!(guest.memory()[2999..3009], [0, 5, 5, 5, 5, 5, 5, 5, 5, 0]);
        // A value over its own key.
        assert_eq!(guest.call(form, [map, 1, 2000, 2000, 0, 0]), 0);
        assert_eq!(guest.memory()[2000..2008], [5; 8]);
        guest.put(2000, &5u32.to_le_bytes());
        assert_eq!(guest.call(form, [map, 3, 2000, -1, -1, 1]), EINVAL);
        assert_eq!(guest.call(form, [map, 3, 2000, -1, -1, 0]), 0);
        assert_eq!(guest.call(form, [map, 3, 2000, -1, -1, 0]), ENOENT);
        assert_eq!(guest.call(form, [map, 1, 2000, 3000, 0, 0]), ENOENT);
        let asked = guest.asked();
        assert!(asked.contains(&format!("update {map} [9, 0, 0, 0] 8 1")), "{asked:?}");
        assert!(asked.contains(&format!("lookup {map} [5, 0, 0, 0] 4")), "{asked:?}");
    }
}

#[test]
fn a_bloom_filter_is_asked_for_a_value_and_an_array_of_cgroups_takes_preopens() {
    let (mut guest, object) = loaded();
    let bloom = map(&mut guest, object, "bloom");
    guest.put(1000, &[1, 2, 3, 4]);
    assert_eq!(guest.call("operate", [bloom, 1, 0, 1000, 0, 0]), ENOENT);
    let groups = map(&mut guest, object, "groups");
    guest.put(2000, &[7, 0, 0, 0]);
    let mut put = |descriptor: i32| {
        guest.put(1000, &descriptor.to_le_bytes());
        guest.call("operate", [groups, 2, 2000, 1000, 0, 0])
    };
    assert_eq!([put(5), put(2), put(-1)], [0, -i64::from(libc::EBADF), -i64::from(libc::EBADF)]);
    let asked = guest.asked();
    assert!(asked.contains(&format!("lookup {bloom} [1, 2, 3, 4] 0")), "{asked:?}");
    assert!(asked.contains(&format!("cgroup {groups} [7, 0, 0, 0] 2")), "{asked:?}");
}

#[test]
fn a_value_of_all_processors_needs_room_for_all_of_them() {
    let (mut guest, object) = loaded();
    let map = map(&mut guest, object, "percpu");
    guest.put(1000, &[1, 0, 0, 0]);
    guest.put(1004, &[7; 64]);
    assert_eq!(guest.call("operate", [map, 2, 1000, 1004, 0, 0]), 0);
    guest.asked();
    let last = PAGE - 64;
    for bad in [last + 1, PAGE - 8, PAGE, -1, -8] {
        assert_eq!(guest.call("operate", [map, 1, 1000, bad, 0, 0]), EFAULT, "{bad}");
        assert_eq!(guest.call("operate", [map, 2, 1000, bad, 0, 0]), EFAULT, "{bad}");
    }
    assert_eq!(guest.asked(), [""; 0]);
    assert_eq!(guest.call("operate", [map, 1, 1000, last, 0, 0]), 0);
    assert_eq!(guest.memory()[last as usize - 1..], [&[0][..], &[7; 64]].concat());
}

#[test]
fn pointers_and_numbers_of_maps_that_are_none_are_errors() {
    let (mut guest, object) = loaded();
    let map = map(&mut guest, object, "hash");
    guest.asked();
    for bad in [PAGE, PAGE - 3, -1, -4, i64::from(i32::MIN)] {
        for words in [[1, bad, 0], [1, 0, bad], [2, bad, 0], [2, 0, bad], [3, bad, 0], [4, bad, 0]]
        {
            let [command, key, value] = words;
            let answer = guest.call("operate", [map, command, key, value, 0, 0]);
            assert_eq!(answer, EFAULT, "{words:?}");
        }
        assert_eq!(guest.call("operate", [map, 4, 0, 0, bad, 0]), EFAULT, "{bad}");
    }
    // As a number of 32 bits this would be 8.
    for bad in [(1 << 32) + 8, -8, i64::MAX, i64::MIN] {
        for form in ["operate64", "operate65"] {
            assert_eq!(guest.call(form, [map, 1, bad, 8, 0, 0]), EFAULT, "{bad}");
            assert_eq!(guest.call(form, [map, 1, 8, bad, 0, 0]), EFAULT, "{bad}");
        }
    }
    for other in [0, 1, 2, 3, -1, map + 1, i64::from(i32::MAX), i64::from(i32::MIN)] {
        assert_eq!(guest.call("operate", [other, 1, 0, 8, 0, 0]), EBADF, "{other}");
    }
    for other in [map + (1 << 32), i64::MAX, i64::MIN] {
        assert_eq!(guest.call("operate65", [other, 1, 0, 8, 0, 0]), EBADF, "{other}");
    }
    for command in [0, 5, -1, i64::from(i32::MIN)] {
        assert_eq!(guest.call("operate", [map, command, 0, 8, 0, 0]), EINVAL, "{command}");
    }
    assert_eq!(guest.asked(), [""; 0]);
}

#[test]
fn large_values_go_through_the_window() {
    let mut guest = Guest::of(&super::machine::text("(memory (export \"memory\") 200)"), false);
    let object = guest.call("load", [0, 8 << 20]);
    assert_eq!(guest.asked(), [format!("load {}", 8 << 20)]);
    assert_eq!(guest.call("load", [0, (8 << 20) + 1]), 0);
    let map = map(&mut guest, object, "large");
    let value: Vec<u8> = (0..1 << 20).map(|it: u32| (it >> 7) as u8).collect();
    guest.put(1 << 20, &value);
    assert_eq!(guest.call("operate", [map, 2, 0, 1 << 20, 0, 0]), 0);
    assert_eq!(guest.call("operate", [map, 1, 0, 3 << 20, 0, 0]), 0);
    assert!(guest.memory()[3 << 20..4 << 20] == value);
}

#[test]
fn losses_are_counted_per_buffer() {
    let (mut guest, object) = loaded();
    let ring = map(&mut guest, object, "ring");
    assert_eq!(guest.call("lost", [object, ring]), 7);
    for (object, map) in [(object, 0), (object, -1), (object, ring + 1), (0, ring), (-1, ring)] {
        assert_eq!(guest.call("lost", [object, map]), EBADF, "{object} {map}");
    }
    assert_eq!(guest.call("lost", [object + 1, ring]), EBADF);
}

#[test]
fn the_last_error_is_told_as_far_as_there_is_room() {
    let (mut guest, object) = loaded();
    let text = "R1 \u{fffd} invalid mem \u{fffd} access";
    let length = text.len() as i64;
    assert_eq!(guest.call("last_error", [0, 0]), length);
    assert_eq!(guest.call("last_error", [1000, 100]), length);
    assert_eq!(&guest.memory()[1000..1000 + text.len()], text.as_bytes());
    assert_eq!(guest.memory()[1000 + text.len()], 0);
    guest.put(2000, &[9; 20]);
    assert_eq!(guest.call("last_error", [2000, 3]), length);
    assert_eq!(guest.memory()[2000..2004], *b"R1\0\x09");
    assert_eq!(guest.call("last_error", [PAGE - 4, 4]), length);
    assert_eq!(guest.call("last_error", [PAGE - 4, 5]), EFAULT);
    assert_eq!(guest.call("last_error", [-1, 1]), EFAULT);
    assert_eq!(guest.call("last_error", [0, -1]), EINVAL);
    // What the worker itself refused it tells itself, until the broker is asked again.
    let said = |guest: &mut Guest| {
        let length = guest.call("last_error", [1000, 200]) as usize;
        String::from_utf8(guest.memory()[1000..1000 + length].to_vec()).unwrap()
    };
    assert_eq!(guest.call("load", [0, -1]), 0);
    assert_eq!(said(&mut guest), "the object is larger than 8 MiB");
    assert_eq!(guest.call("load", [PAGE, 1]), 0);
    assert_eq!(said(&mut guest), "the object is not in the guest's memory");
    assert_eq!(guest.call("attach", [object, -1, 0]), EFAULT);
    assert_eq!(said(&mut guest), "the program's name is not a text in the guest's memory");
    guest.put(100, b"prog\0");
    assert_eq!(guest.call("attach_fd", [object, 100, 1]), EBADF);
    assert_eq!(said(&mut guest), "the descriptor is none of a preopen");
    assert_eq!(guest.call("attach", [object, 100, 0]), 0);
    assert_eq!(said(&mut guest), text);
}

#[test]
fn a_guest_without_a_memory_has_no_good_pointer() {
    let mut guest = Guest::of(&super::machine::text(""), false);
    assert_eq!(guest.call("load", [0, 1]), 0);
    let object = guest.call("load", [0, 0]);
    assert!(object > 0);
    assert_eq!(guest.call("map", [object, 0]), EFAULT);
    assert_eq!(guest.call("attach", [object, 0, 0]), EFAULT);
    assert_eq!(guest.call("poll", [object, 0, 0, 0, 0, 1, 0]), EFAULT);
    assert_eq!(guest.call("last_error", [0, 1]), EFAULT);
    assert_eq!(guest.call("close", [object]), 0);
}
