//! For any input: whatever matches a log pattern is reached, paths cover what they name, holes read as zeros.

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;

use super::super::content::SpanReader;
use super::super::files::{is_beneath, outermost};
use super::super::logs::Pattern;

/// A component of a pattern and a name that it matches.
fn component() -> impl Strategy<Value = (String, Vec<String>)> {
    prop_oneof![
        "[a-c]{1,3}".prop_map(|name| (name.clone(), vec![name])),
        "[a-c]{1,3}".prop_map(|name| (format!("{}*", &name[..1]), vec![name])),
        "[a-c]{1,3}".prop_map(|name| ("*".to_owned(), vec![name])),
        "[a-c]".prop_map(|name| ("?".to_owned(), vec![name])),
        "[a-c]".prop_map(|name| ("[a-c]".to_owned(), vec![name])),
        "[a-c]".prop_map(|name| (format!("{{{name},zz}}"), vec![name])),
        "[a-c]".prop_map(|name| (format!("{{{name}/q,zz}}"), vec![name, "q".to_owned()])),
        prop::collection::vec("[a-c]{1,2}", 0..3).prop_map(|names| ("**".to_owned(), names)),
    ]
}

proptest! {
    #[test]
    fn every_match_lies_beneath_the_prefix_and_is_led_to(
        parts in prop::collection::vec(component(), 1..6), last in "[a-c]{1,3}",
    ) {
        let mut text: String = parts.iter().map(|(part, _)| format!("/{part}")).collect();
        text.push_str("/*");
        let mut path: String = parts.iter().flat_map(|(_, names)| names).map(|name| format!("/{name}")).collect();
        path.push('/');
        path.push_str(&last);
        let pattern = Pattern::parse(&text).unwrap();
        prop_assert!(pattern.matches(path.as_bytes()), "{} should match {}", text, path);
        prop_assert!(is_beneath(path.as_bytes(), &pattern.prefix));
        for directory in Path::new(&path).ancestors().skip(1) {
            let directory = directory.to_str().unwrap().as_bytes();
            prop_assert!(pattern.leads_through(directory), "{} should lead through {:?}", text, directory);
        }
    }

    #[test]
    fn sparse_files_read_as_any_other(
        data in prop::collection::vec((0_u64..600_000, 1_usize..9_000), 0..12),
        length in 0_u64..600_000,
        sparse: bool,
        step in 1_usize..200_000,
    ) {
        let file = tempfile::tempfile().unwrap();
        for (at, bytes) in data {
            file.write_all_at(&vec![at as u8 | 1; bytes], at).unwrap();
        }
        file.set_len(length).unwrap();
        let mut wanted = vec![0; length as usize];
        file.read_exact_at(&mut wanted, 0).unwrap();
        let mut reader = SpanReader::new(&file, 0..length, sparse);
        let (mut read, mut buffer) = (Vec::new(), vec![0xaa; step]);
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => break,
                bytes => read.extend_from_slice(&buffer[..bytes]),
            }
        }
        prop_assert!(read == wanted);
    }

    #[test]
    fn outermost_paths_cover_all_and_no_two_overlap(
        paths in prop::collection::vec("(/[ab.]{1,2}){1,4}", 1..8),
    ) {
        let paths: Vec<Vec<u8>> = paths.into_iter().map(String::into_bytes).collect();
        let tops = outermost(&paths);
        for path in &paths {
            prop_assert_eq!(tops.iter().filter(|top| is_beneath(path, top)).count(), 1);
        }
        prop_assert!(tops.iter().all(|top| paths.contains(top)));
    }
}

#[test]
fn directories_beside_the_logs_are_not_entered() {
    let pattern = Pattern::parse("/srv/*/logs/*.log").unwrap();
    assert_eq!(pattern.prefix, b"/srv");
    for (directory, wanted) in
        [("/srv/a", true), ("/srv/a/logs", true), ("/srv/a/data", false), ("/srv/a/logs/x", false)]
    {
        assert_eq!(pattern.leads_through(directory.as_bytes()), wanted, "{directory}");
    }
    assert_eq!(Pattern::parse("/var/log/syslog").unwrap().prefix, b"/var/log");
    assert_eq!(Pattern::parse("/*.log").unwrap().prefix, b"/");
    assert!(Pattern::parse("log/*.log").is_err());
}
