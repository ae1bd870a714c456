//! Random trees restore to exactly what was asked for, and nothing lies beside the target.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Sketch {
    File { pieces: Vec<Vec<u8>>, mode: u32, seconds: i64 },
    Directory { entries: BTreeMap<Vec<u8>, Sketch>, mode: u32 },
    Symlink(Vec<u8>),
    Fifo,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..20)
        .prop_filter("names", |name| super::super::name::EntryName::new(name).is_ok())
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    (0u8..3, 0usize..9_000).prop_map(|(byte, length)| vec![byte; length])
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let file = (proptest::collection::vec(piece(), 0..4), 0o400u32..0o1000, -9_000_000_000i64..9_000_000_000)
        .prop_map(|(pieces, mode, seconds)| Sketch::File { pieces, mode, seconds });
    let link = proptest::collection::vec(1u8..=255, 1..30).prop_map(Sketch::Symlink);
    let leaf = prop_oneof![4 => file, 1 => link, 1 => Just(Sketch::Fifo)];
    leaf.prop_recursive(4, 40, 6, |inner| {
        (proptest::collection::btree_map(name(), inner, 0..6), 0o700u32..0o1000)
            .prop_map(|(entries, mode)| Sketch::Directory { entries, mode })
    })
}

fn draw(fake: &mut Fake, name: &[u8], sketch: &Sketch) -> Node {
    match sketch {
        Sketch::File { pieces, mode, seconds } => {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let modified = Timestamp::from_second(*seconds).unwrap();
            Node { mode: *mode, modified, ..fake.file(name, &pieces) }
        }
        Sketch::Directory { entries, mode } => {
            let nodes = entries.iter().map(|(name, inner)| draw(fake, name, inner)).collect();
            Node { mode: *mode, ..fake.directory(name, nodes) }
        }
        Sketch::Symlink(target) => symlink(name, target),
        Sketch::Fifo => node(name, NodeKind::Fifo),
    }
}

/// The tree as it is asked for: only what leads to or lies below one of the paths.
fn prune(fake: &mut Fake, nodes: &[Node], paths: &[Vec<Vec<u8>>]) -> Vec<Node> {
    let mut kept = Vec::new();
    for node in nodes {
        let below: Vec<_> = paths.iter().filter(|path| path[0] == node.name).map(|path| path[1..].to_vec()).collect();
        if below.iter().any(Vec::is_empty) {
            kept.push(node.clone());
        } else if !below.is_empty() {
            let inner = fake.trees[&node.subtree.unwrap()].clone();
            let inner = prune(fake, &inner, &below);
            kept.push(Node { subtree: Some(fake.tree(inner)), ..node.clone() });
        }
    }
    kept
}

fn all_paths(fake: &Fake, nodes: &[Node], above: &[Vec<u8>], found: &mut Vec<Vec<Vec<u8>>>) {
    for node in nodes {
        let path: Vec<_> = above.iter().cloned().chain([node.name.clone()]).collect();
        if let Some(subtree) = node.subtree {
            all_paths(fake, &fake.trees[&subtree], &path, found);
        }
        found.push(path);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_come_back_exactly(
        top in proptest::collection::btree_map(name(), sketch(), 0..6),
        chosen in proptest::collection::vec(any::<proptest::sample::Index>(), 0..4),
        again in any::<bool>(),
    ) {
        let sandbox = Sandbox::new();
        let mut fake = Fake::default();
        let nodes: Vec<Node> = top.iter().map(|(name, sketch)| draw(&mut fake, name, sketch)).collect();
        let mut paths = Vec::new();
        all_paths(&fake, &nodes, &[], &mut paths);
        let only: Vec<_> = if paths.is_empty() { Vec::new() } else { chosen.iter().map(|index| index.get(&paths).clone()).collect() };
        let wanted = if only.is_empty() { nodes.clone() } else { prune(&mut fake, &nodes, &only) };
        let mut request = fake.shop(nodes);
        request.only = only.iter().map(|path| PathBuf::from(std::ffi::OsString::from_vec(path.join(&b'/')))).collect();
        let summary = run(&fake, &request, &sandbox.target()).unwrap();
        prop_assert_eq!(summary.missing, Vec::new());
        assert_exact(&fake, &sandbox.target(), &wanted);
        if again {
            request.overwrite = true;
            let summary = run(&fake, &request, &sandbox.target()).unwrap();
            prop_assert_eq!(summary.missing, Vec::new());
            assert_exact(&fake, &sandbox.target(), &wanted);
        }
        prop_assert_eq!(fs::read_dir(sandbox.path()).unwrap().count(), 1);
    }
}
