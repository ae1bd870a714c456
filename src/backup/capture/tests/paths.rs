//! Which paths are taken, and where they lie in the tree.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::super::exclude::compile_exclude;
use super::fake::{FakeStore, files, logs, missing};
use crate::ground::FailureKind;
use crate::policy::{EbsSelection, SourceKind};

/// A directory tree of empty files.
fn tree(paths: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    for path in paths {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, path.to_str().unwrap()).unwrap();
    }
    (directory, root)
}

#[test]
fn a_pattern_that_is_none_is_named() {
    let failure = compile_exclude(&["a[".to_owned()]).unwrap_err();
    assert!(failure.kind == FailureKind::WrongInput && failure.message.contains("`a[`"), "{failure}");
}

#[test]
fn an_excluded_directory_takes_everything_beneath_with_it() {
    let (_guard, root) = tree(&["keep/a", "keep/CACHEDIR.TAG", "cache/deep/b", "x.bak"]);
    let store = FakeStore::default();
    let captured = store.capture(&files(&[&root], &["cache", "*.bak"]), None).unwrap();
    assert_eq!(store.names(&captured, &root), ["keep"]);
    assert_eq!(store.names(&captured, &root.join("keep")), ["CACHEDIR.TAG", "a"]);
    assert_eq!(missing(&captured), []);
}

#[test]
fn several_paths_make_one_tree_with_real_parents() {
    let (_guard, root) = tree(&["a/one/x", "a/two/y", "a/three/z", "b.conf"]);
    fs::set_permissions(root.join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o2710)).unwrap();
    let store = FakeStore::default();
    let paths = [root.join("a/one"), root.join("a/two"), root.join("b.conf")];
    let captured = store.capture(&files(&[&paths[0], &paths[1], &paths[2]], &[]), None).unwrap();
    assert_eq!(captured.roots, paths);
    assert_eq!(store.names(&captured, &root), ["a", "b.conf"]);
    assert_eq!(store.names(&captured, &root.join("a")), ["one", "two"]);
    assert_eq!(store.node(&captured, &root.join("a")).mode, 0o2710);
    assert_eq!(captured.entries, 5, "parents are not part of the source");
}

#[test]
fn a_path_below_another_is_taken_once() {
    let (_guard, root) = tree(&["a/one/x", "b/y"]);
    let store = FakeStore::default();
    let inner = root.join("a/one");
    let captured = store.capture(&files(&[&inner, &root], &[]), None).unwrap();
    assert_eq!(captured.roots, [inner, root.clone()]);
    assert_eq!((captured.entries, missing(&captured).len()), (6, 0));
}

#[test]
fn a_configured_symlink_is_followed_and_no_other() {
    let (_guard, root) = tree(&["real/page", "site/own"]);
    symlink(root.join("real"), root.join("www")).unwrap();
    symlink(root.join("real"), root.join("site/link")).unwrap();
    let store = FakeStore::default();
    let www = root.join("www");
    let captured = store.capture(&files(&[&www, &root.join("site")], &[]), None).unwrap();
    assert_eq!(store.names(&captured, &www), ["page"]);
    assert!(store.node(&captured, &root.join("site/link")).link_target.is_some());
    // The same when the path above it is configured too.
    let both = store.capture(&files(&[&root, &www], &[]), None).unwrap();
    assert_eq!(store.names(&both, &www), ["page"]);
    assert_eq!(missing(&both), []);
}

#[test]
fn a_path_that_the_walk_above_it_does_not_reach_is_named() {
    let (_guard, root) = tree(&["real/app/x", "out/deep/y"]);
    symlink(root.join("real"), root.join("link")).unwrap();
    let store = FakeStore::default();
    let (linked, left_out) = (root.join("link/app"), root.join("out/deep"));
    let captured = store.capture(&files(&[&root, &linked, &left_out], &["out"]), None).unwrap();
    let named = missing(&captured);
    assert_eq!(named.len(), 2, "{named:?}");
    assert!(named[0].0.ends_with("link/app") && named[0].1.contains("name its real path"), "{named:?}");
    assert!(named[1].0.ends_with("out/deep") && named[1].1.contains("`exclude`"), "{named:?}");
}

#[test]
fn a_path_that_is_not_there_is_named_and_a_source_without_any_fails() {
    let (_guard, root) = tree(&["a/x"]);
    let store = FakeStore::default();
    let gone = root.join("gone");
    let captured = store.capture(&files(&[&root.join("a"), &gone], &[]), None).unwrap();
    assert_eq!(missing(&captured).len(), 1);
    assert_eq!(missing(&captured)[0], (gone.to_str().unwrap().to_owned(), "it does not exist".to_owned()));
    let failure = store.capture(&files(&[&gone], &[]), None).unwrap_err();
    assert!(failure.message.contains("gone") && failure.kind == FailureKind::Failed, "{failure}");
}

#[test]
fn wrong_paths_get_a_sentence() {
    let store = FakeStore::default();
    for (path, word) in [("relative/x", "not absolute"), ("/srv/../etc", "`..`")] {
        let failure = store.capture(&files(&[Path::new(path)], &[]), None).unwrap_err();
        assert!(failure.kind == FailureKind::WrongInput && failure.message.contains(word), "{failure}");
    }
    let failure = store.capture(&SourceKind::Image { path: "/dev".to_owned() }, None).unwrap_err();
    assert!(failure.message.contains("neither a file nor a block device"), "{failure}");
    let kind = SourceKind::Ebs { select: EbsSelection::Instance("i-1".to_owned()), crash_consistent: None };
    let failure = store.capture(&kind, None).unwrap_err();
    assert!(failure.message.contains("`ebs`") && failure.kind == FailureKind::WrongInput, "{failure}");
}

#[test]
fn views_of_the_kernel_are_empty_directories_and_not_missing() {
    let store = FakeStore::default();
    let others = fs::read_dir("/").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let others: Vec<String> = others.filter(|name| name != "proc").collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let captured = store.capture(&files(&[Path::new("/")], &others), None).unwrap();
    assert_eq!(store.names(&captured, Path::new("/")), ["proc"]);
    assert_eq!(store.names(&captured, Path::new("/proc")), [""; 0]);
    assert_eq!(missing(&captured), []);
    let failure = store.capture(&files(&[Path::new("/proc")], &[]), None).unwrap_err();
    assert!(failure.message.contains("view of the kernel's state"), "{failure}");
}

#[test]
fn logs_are_found_by_pattern_and_only_they() {
    let (_guard, root) = tree(&["l/a.log", "l/a.log.1", "l/b.txt", "l/old/c.log", "l/other/deep/d.log", "m/e.log"]);
    let at = |tail: &str| format!("{}/{tail}", root.display());
    let store = FakeStore::default();
    let flat = store.capture(&logs(&[at("l/*.log*")]), None).unwrap();
    assert_eq!(flat.roots, [root.join("l")]);
    assert_eq!(store.names(&flat, &root.join("l")), ["a.log", "a.log.1"]);
    let deep = store.capture(&logs(&[at("l/**/*.log"), at("m/e.log"), at("l/*.txt")]), None).unwrap();
    assert_eq!(deep.roots, [root.join("l"), root.join("m")]);
    assert_eq!(store.names(&deep, &root.join("l")), ["a.log", "b.txt", "old", "other"]);
    assert_eq!(store.names(&deep, &root.join("l/other/deep")), ["d.log"]);
    assert_eq!(store.names(&deep, &root.join("m")), ["e.log"]);
    assert_eq!(missing(&deep), []);
}

#[test]
fn a_symlink_to_a_log_directory_is_followed_where_the_pattern_names_a_directory() {
    let (_guard, root) = tree(&["app/one/logs/a.log", "data/b.log", "data/deep/c.log"]);
    fs::create_dir(root.join("app/two")).unwrap();
    symlink(root.join("data"), root.join("app/two/logs")).unwrap();
    symlink("b.log", root.join("data/current.log")).unwrap();
    let store = FakeStore::default();
    let pattern = format!("{}/app/*/logs/*.log", root.display());
    let captured = store.capture(&logs(&[pattern]), None).unwrap();
    assert_eq!(store.names(&captured, &root.join("app")), ["one", "two"]);
    assert_eq!(store.names(&captured, &root.join("app/two/logs")), ["b.log", "current.log"]);
    let current = store.node(&captured, &root.join("app/two/logs/current.log"));
    assert_eq!(current.link_target.as_deref(), Some(&b"b.log"[..]));
    // Below `**` a link could lead in circles.
    let pattern = format!("{}/app/**/*.log", root.display());
    let captured = store.capture(&logs(&[pattern]), None).unwrap();
    assert_eq!(store.names(&captured, &root.join("app")), ["one"]);
}

#[test]
fn a_log_pattern_without_a_match_is_named_and_no_match_at_all_fails() {
    let (_guard, root) = tree(&["l/a.log", "m/x"]);
    let at = |tail: &str| format!("{}/{tail}", root.display());
    let store = FakeStore::default();
    let captured = store.capture(&logs(&[at("l/*.log"), at("m/*.log"), at("gone/*.log")]), None).unwrap();
    let named: Vec<_> = missing(&captured).into_iter().map(|(path, _)| path).collect();
    assert_eq!(named, [at("m/*.log"), at("gone/*.log")]);
    let failure = store.capture(&logs(&[at("m/*.log")]), None).unwrap_err();
    assert!(failure.message.contains("no file matches"), "{failure}");
}
